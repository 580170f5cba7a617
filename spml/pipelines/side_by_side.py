"""Runs the jobs of a comparison, one after the other or side by side in processes; a failing one stops no other."""

import os
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from multiprocessing import connection, get_context
from pathlib import Path
from typing import Any, Protocol

import torch

from spml.engine.callbacks import clock
from spml.errors import INTERRUPTED, UserError
from spml.pipelines.compared_run import PREDICTORS, Guard
from spml.processes import start

LOG = "log.txt"  # what a process of its own prints, and the traceback of a bug
POLL = 0.2  # seconds
GRACE = 2.0  # seconds in which a process that has saved may end by itself


class Job(Protocol):
    """Something to do once, which an interrupted call continues. It must pickle."""

    @property
    def title(self) -> str: ...

    @property
    def folder(self) -> Path: ...

    def finished(self) -> dict[str, Any] | None:
        """What an earlier call found, or None. Raises UserError for a folder of another job."""

    def run(self, device: torch.device, guard: Guard) -> dict[str, Any]:
        """Do it, and return what `finished` returns from then on."""


@dataclass(frozen=True)
class Failure:
    """The line that says why a job failed."""

    line: str


Outcome = dict[str, Any] | Failure


class Halt:
    """Tells all processes to stop. One byte without a lock: a process that dies with a lock would stop all others."""

    def __init__(self) -> None:
        self.value = get_context("spawn").RawValue("b", 0)

    def set(self) -> None:
        """From now on `is_set` is true, in every process."""
        self.value.value = 1

    def is_set(self) -> bool:
        """As of an Event, which is what training asks."""
        return bool(self.value.value)


def run_jobs(
    jobs: Sequence[Job], device: torch.device, guard: Guard = nullcontext, processes: int = 1
) -> list[Outcome]:
    """Run the jobs that are not finished, and return the outcome of each, in order.

    With one process all run here. With more, each job has a process of its own, whose output goes to `log.txt` in its
    folder, and an equal share of the cores; with several GPUs each its own. A job that fails is one line.

    Raises:
        KeyboardInterrupt: after Ctrl-C; running trainings have saved.
        UserError: a folder holds another job's results, found before any job starts.
    """
    found: dict[int, Outcome] = {}
    for place, job in enumerate(jobs):
        if (earlier := job.finished()) is not None:
            found[place] = earlier
    rest = [place for place in range(len(jobs)) if place not in found]
    fresh = _serial if processes == 1 or len(rest) < 2 else _parallel
    begin = time.monotonic()
    for count, (place, outcome) in enumerate(fresh(jobs, rest, device, guard, processes), 1):
        found[place] = outcome
        if isinstance(outcome, Failure):
            print(f"failed: {jobs[place].title}: {outcome.line}", file=sys.stderr, flush=True)
        left = (time.monotonic() - begin) / max(count, min(processes, len(rest))) * (len(rest) - count)
        print(
            f"{len(found)} of {len(jobs)} done: {jobs[place].title}{_figures(outcome)}, {clock(left)} left", flush=True
        )
    return [found[place] for place in range(len(jobs))]


def _figures(outcome: Outcome) -> str:
    """`: 57.6 / 61.7`, the mIoU of each read-out that the outcome has."""
    held = outcome if isinstance(outcome, dict) else {}
    figures = [f"{held[name]:.1f}" for name in PREDICTORS.values() if name in held]
    return f": {' / '.join(figures)}" if figures else ""


def _serial(
    jobs: Sequence[Job], places: Sequence[int], device: torch.device, guard: Guard, processes: int
) -> Iterator[tuple[int, Outcome]]:
    for place in places:
        yield place, _attempt(jobs[place], device, guard)


def _attempt(job: Job, device: torch.device, guard: Guard) -> Outcome:
    try:
        return job.run(device, guard)
    except UserError as error:
        return Failure(str(error))
    except Exception as error:  # a bug, or no memory left: the others may do better
        log = job.folder / LOG
        log.parent.mkdir(parents=True, exist_ok=True)
        with open(log, "a", encoding="utf-8") as file:
            traceback.print_exc(file=file)
        first = (str(error).splitlines() or [""])[0]
        return Failure(f"{type(error).__name__}: {first} (traceback: {log})")


@dataclass(frozen=True)
class _Running:
    place: int
    process: Any  # multiprocessing.Process
    slot: int


def _parallel(
    jobs: Sequence[Job], places: Sequence[int], device: torch.device, guard: Guard, processes: int
) -> Iterator[tuple[int, Outcome]]:
    halt = Halt()
    waiting, running, slots = list(places), dict[Any, _Running](), list(range(processes))
    try:
        with guard() as stop:
            while waiting or running:
                while waiting and slots:
                    slot, place = slots.pop(0), waiting.pop(0)
                    end, process = _launch(jobs[place], _device(device, slot), halt, processes)
                    running[end] = _Running(place, process, slot)
                if stop is not None and stop.is_set():
                    halt.set()
                    waiting.clear()
                for end in connection.wait(list(running), POLL):
                    one = running.pop(end)
                    slots.append(one.slot)
                    outcome = _receive(end, one.process)
                    if outcome is not None:
                        yield one.place, outcome
    finally:
        for one in running.values():
            one.process.kill()
    if halt.is_set():
        raise KeyboardInterrupt


def _launch(job: Job, device: torch.device, halt: Halt, processes: int) -> tuple[Any, Any]:
    """Start the process of a job; return the end of the pipe that its outcome comes from, and the process."""
    job.folder.mkdir(parents=True, exist_ok=True)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = os.environ.get("OMP_NUM_THREADS") or str(max(1, cores // processes))
    ours, theirs = get_context("spawn").Pipe(duplex=False)
    process = start(_work, (job, device, halt, theirs), {"OMP_NUM_THREADS": threads})
    theirs.close()  # so that the pipe ends when the process does
    return ours, process


def _receive(end: Any, process: Any) -> Outcome | None:
    """The outcome of a process, None for one that was told to stop."""
    try:
        outcome: Outcome = end.recv()
    except EOFError:
        process.join()
        if process.exitcode == INTERRUPTED:
            return None
        return Failure(f"its process ended with status {process.exitcode}: no memory left?")
    finally:
        end.close()
    process.join()
    return outcome


def _device(device: torch.device, slot: int) -> torch.device:
    """The device of a slot: with several GPUs and none chosen, each slot has its own."""
    if device.type != "cuda" or device.index is not None or torch.cuda.device_count() < 2:
        return device
    return torch.device("cuda", slot % torch.cuda.device_count())


def _work(job: Job, device: torch.device, halt: Halt, end: Any) -> None:
    """What the process of a job does. Told to stop, training saves and all else ends at once: it can go on."""
    log = os.open(job.folder / LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    os.dup2(log, 1)
    os.dup2(log, 2)
    training = threading.Event()

    @contextmanager
    def guard() -> Iterator[Any]:
        training.set()
        try:
            yield halt
        finally:
            training.clear()

    def watch() -> None:
        while not halt.is_set() or training.is_set():
            time.sleep(POLL)
        time.sleep(GRACE)
        os._exit(INTERRUPTED)

    threading.Thread(target=watch, daemon=True).start()
    try:
        outcome = _attempt(job, device, guard)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    end.send(outcome)
    end.close()
