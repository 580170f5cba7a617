"""How scripts end: one line for what the user or the machine is to blame for, a traceback for a bug."""

import sys

import pytest
import torch

from spml.cli.exits import run
from spml.errors import UserError


def fail(error):
    def main():
        raise error

    return main


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (UserError("a.txt line 3: no such class"), 1, "error: a.txt line 3: no such class"),
        (PermissionError(13, "Permission denied", "/results"), 1, "error: /results: Permission denied"),
        (OSError(28, "No space left on device"), 1, "error: No space left on device"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (torch.cuda.OutOfMemoryError("CUDA out of memory.\nMore lines"), 1, "error: no GPU memory left: CUDA out of"),
    ],
)
def test_one_line_and_a_status(error, status, line, capsys):
    with pytest.raises(SystemExit) as ended:
        run(fail(error))
    assert ended.value.code == status
    shown = capsys.readouterr().err
    assert shown.startswith(line) and shown.count("\n") == 1


def test_status_of_main_and_bugs_as_they_are():
    for returned, status in ((None, 0), (0, 0), (130, 130)):
        with pytest.raises(SystemExit) as ended:
            run(lambda value=returned: value)
        assert ended.value.code == status
    with pytest.raises(RuntimeError, match="a bug"):
        run(fail(RuntimeError("a bug")))


def test_a_reader_that_went_away(monkeypatch):
    monkeypatch.setattr(sys, "stderr", open("/dev/null", "w"))  # noqa: SIM115 - `run` closes it
    with pytest.raises(SystemExit) as ended:
        run(fail(BrokenPipeError(32, "Broken pipe")))
    assert ended.value.code == 1
