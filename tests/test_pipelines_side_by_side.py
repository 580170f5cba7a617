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
                write_json(self.folder / "saved.json", {})
                raise KeyboardInterrupt
        outcome = {"threads": os.environ.get("OMP_NUM_THREADS"), "title": self.title}
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
    assert told.err.splitlines()[0] == "failed: error1: what the user can mend" and "4 of 4 done" in told.out
    with pytest.raises(KeyboardInterrupt):
        stop = threading.Event()
        stop.set()
        run_jobs(tasks(tmp_path / "b", "long", "well"), CPU, lambda: nullcontext(stop))
    assert not (tmp_path / "b" / "well1").exists()


def test_processes_crash_fail_and_stop_alone(tmp_path, monkeypatch):
    """The last job is told to stop once all others have ended, as after Ctrl-C."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    jobs = tasks(tmp_path, "well", "crash", "error", "long")
    waiting = (jobs[0].folder / "outcome.json", jobs[3].folder / "log.txt")

    class Stop:
        def is_set(self):
            return all(path.is_file() and path.stat().st_size for path in waiting)

    @contextmanager
    def guard():
        yield Stop()

    with pytest.raises(KeyboardInterrupt):
        run_jobs(jobs, CPU, guard, processes=2)
    assert (jobs[3].folder / "saved.json").is_file() and "hello from long3" in (jobs[3].folder / "log.txt").read_text()
    found = run_jobs([*jobs[:1], Task("one more", tmp_path / "more")], CPU, processes=2)  # one is left: it runs here
    assert found[0] == json.loads((jobs[0].folder / "outcome.json").read_text())
    assert int(found[0]["threads"]) >= 1 and found[1]["title"] == "one more"


@pytest.mark.slow
def test_a_crashed_process_is_one_line(tmp_path):
    found = run_jobs(tasks(tmp_path, "crash", "bug"), CPU, processes=2)
    assert found[0].line == "its process ended with status 9: no memory left?"
    assert found[1].line.startswith("ZeroDivisionError: a bug (")
