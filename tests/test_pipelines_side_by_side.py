"""Jobs side by side: outcomes in order, failures and crashes that stop no other, Ctrl-C, and what is done already."""

import json
import os
import threading
import time
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from spml.errors import UserError
from spml.files import read_json, write_json
from spml.pipelines.side_by_side import Failure, run_jobs

CPU = torch.device("cpu")
DEADLINE = 120


@dataclass(frozen=True)
class Task:
    """A job without any training; `kind` says how it ends."""

    title: str
    folder: Path
    kind: str = "well"

    def finished(self):
        path = self.folder / "outcome.json"
        return read_json(path) if path.is_file() else None

    def run(self, device, guard):
        print("hello from", self.title)
        if self.kind == "error":
            raise UserError("what the user can mend")
        if self.kind == "bug":
            raise ZeroDivisionError("a bug\nof two lines")
        if self.kind == "crash":
            os._exit(9)
        with guard() as stop:
            end = time.monotonic() + DEADLINE
            while self.kind == "long" and not stop.is_set() and time.monotonic() < end:
                time.sleep(0.05)
            if self.kind == "long":
                write_json(self.folder / "saved.json", {"threads": os.environ["OMP_NUM_THREADS"]})
                raise KeyboardInterrupt
        outcome = {"title": self.title, "mean_iou": 50.04, "retrieval_mean_iou": 61.5}
        write_json(self.folder / "outcome.json", outcome)
        return outcome


def tasks(folder, *kinds):
    return [Task(f"{kind}{place}", folder / f"{kind}{place}", kind) for place, kind in enumerate(kinds)]


def test_here_a_failure_is_one_line_and_the_others_go_on(tmp_path, capsys):
    jobs = tasks(tmp_path, "well", "error", "bug", "well")
    found = run_jobs(jobs, CPU)
    assert [type(one) for one in found] == [dict, Failure, Failure, dict]
    assert found[1].line == "what the user can mend" and found[2].line.startswith("ZeroDivisionError: a bug (")
    assert "Traceback" in (jobs[2].folder / "log.txt").read_text()
    told = capsys.readouterr()
    assert (
        told.err.splitlines()[0] == "failed: error1: what the user can mend"
        and "4 of 4 done: well3: 50.0 / 61.5, 0:00:00 left" in told.out
    )
    with pytest.raises(KeyboardInterrupt):
        stop = threading.Event()
        stop.set()
        run_jobs(tasks(tmp_path / "b", "long", "well"), CPU, lambda: nullcontext(stop))
    assert not (tmp_path / "b" / "well1").exists()
    again = run_jobs([jobs[0], Task("one more", tmp_path / "more")], CPU, processes=2)  # one is left: it runs here
    assert [one["title"] for one in again] == ["well0", "one more"]


def test_a_crash_is_one_line_and_a_stop_saves(tmp_path, monkeypatch, capsys):
    """Ctrl-C comes when one process has died, which must not keep the other from hearing of it."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    jobs = tasks(tmp_path, "crash", "long")
    log = jobs[1].folder / "log.txt"

    class Stop:
        def is_set(self):
            return log.is_file() and log.stat().st_size > 0 and "failed: crash0" in capsys_err()

    told = []

    def capsys_err():
        told.append(capsys.readouterr().err)
        return "".join(told)

    @contextmanager
    def guard():
        yield Stop()

    with pytest.raises(KeyboardInterrupt):
        run_jobs(jobs, CPU, guard, processes=2)
    assert "failed: crash0: its process ended with status 9: no memory left?" in capsys_err()
    assert "hello from long1" in log.read_text()
    assert int(json.loads((jobs[1].folder / "saved.json").read_text())["threads"]) >= 1
