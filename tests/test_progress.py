"""Bars on a terminal, lines in a log."""

import sys

import pytest

from spml import progress as module
from spml.progress import progress


def test_a_line_every_half_minute(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])

    def items():
        for number in range(4):
            now[0] += 20
            yield number

    assert list(progress(items(), "CAMs", 100)) == [0, 1, 2, 3]
    assert capsys.readouterr().err.splitlines() == [
        "CAMs: 1 of 100 images, 40.00 s each, 66 min left",
        "CAMs: 3 of 100 images, 26.67 s each, 43 min left",
    ]
    list(progress(items(), "CAMs", unit="file"))
    assert capsys.readouterr().err.splitlines()[0] == "CAMs: 1 files, 40.00 s each"


@pytest.mark.parametrize("quiet", [False, True])
def test_a_bar_on_a_terminal(monkeypatch, capsys, quiet):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert list(progress([1, 2], "CAMs", quiet=quiet)) == [1, 2]
    assert ("2/2" in capsys.readouterr().err) != quiet


def test_a_short_loop_says_nothing(capsys):
    assert list(progress(iter("ab"), "CAMs")) == ["a", "b"]
    assert capsys.readouterr().err == ""
