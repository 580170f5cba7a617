"""How commands end: one line for what the user or the machine is to blame for, a traceback for a bug."""

import sys

import pytest
import torch

from spml.cli.exits import run
from spml.errors import UserError


def fail(error):
    def main():
        raise error

    return main


def status_of(error):
    with pytest.raises(SystemExit) as ended:
        run(fail(error))
    return ended.value.code


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (UserError("a.txt line 3: no such class"), 1, "error: a.txt line 3: no such class"),
        (PermissionError(13, "Permission denied", "/results"), 1, "error: /results: Permission denied"),
        (FileNotFoundError(2, "No such file or directory", "a.txt"), 1, "error: a.txt: No such file or directory"),
        (OSError(30, "Read-only file system", "/mnt/x"), 1, "error: /mnt/x: Read-only file system"),
        (OSError(28, "No space left on device"), 1, "error: No space left on device"),
        (ModuleNotFoundError("No module named 'cv2'", name="cv2"), 1, f"error: {sys.executable} has no package cv2: "),
        (KeyboardInterrupt(), 130, "interrupted"),
        (torch.cuda.OutOfMemoryError("CUDA out of memory.\nMore lines"), 1, "error: no GPU memory left: CUDA out of"),
    ],
)
def test_one_line_and_a_status(error, status, line, capsys):
    assert status_of(error) == status
    told = capsys.readouterr().err
    assert told.startswith(line) and told.count("\n") == 1


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("a bug"),
        ModuleNotFoundError("No module named 'spml.losess'", name="spml.losess"),
        FileNotFoundError(2, "No such file or directory"),  # of no file that anybody named
        ConnectionRefusedError(111, "Connection refused"),
        OSError(9, "Bad file descriptor"),
        OSError("no number at all"),
        TimeoutError(),
    ],
)
def test_bugs_pass_as_they_are(error):
    with pytest.raises(type(error)) as passed:
        run(fail(error))
    assert passed.value is error


def test_the_status_of_main():
    for returned, status in ((None, 0), (0, 0), (130, 130)):
        with pytest.raises(SystemExit) as ended:
            run(lambda value=returned: value)
        assert ended.value.code == status


def test_a_traceback_where_it_is_asked_for(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["spml", "train", "--traceback"])
    for error in (UserError("too many classes"), PermissionError(13, "Permission denied", "/results")):
        assert status_of(error) == 1
        told = capsys.readouterr().err
        assert told.startswith("Traceback") and "raise error" in told
        assert told.splitlines()[-1].startswith("error: ")


def test_a_reader_that_went_away(monkeypatch):
    monkeypatch.setattr(sys, "stderr", open("/dev/null", "w"))  # noqa: SIM115 - `run` closes it
    assert status_of(BrokenPipeError(32, "Broken pipe")) == 1


def test_nothing_changes_on_import():
    assert sys.excepthook.__module__ != "spml.cli.exits"
