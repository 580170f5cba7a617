"""What the first ten steps tell: the time, and terms that stay zero."""

from types import SimpleNamespace

import pytest

from spml.engine.first_steps import STEPS, FirstSteps
from spml.errors import UserError


def go(first: FirstSteps, affinity: list[float], weight: float = 1.0) -> None:
    task = SimpleNamespace(weights={"cross_entropy": 1.0, "feature_affinity": weight})
    for step, value in enumerate(affinity):
        first(step, {"step": step, "total": 1.0, "cross_entropy": 1.0, "feature_affinity": value}, task)


def test_the_time_is_told_once_and_kept(tmp_path, capsys):
    page = tmp_path / "data.txt"
    page.write_text("training data\n")
    go(FirstSteps(500, page), [0.5] * (STEPS + 3))
    assert capsys.readouterr().out.count("for 490 more steps") == 1
    assert page.read_text().startswith("training data\ntime          about ")


def test_a_term_that_stays_zero_is_named(capsys):
    go(FirstSteps(500), [0.0, 0.009] * (STEPS // 2))
    assert "warning [idle_term]: feature_affinity: 0.00 in all of the first 10 steps" in capsys.readouterr().out
    with pytest.raises(UserError, match="--strict: feature_affinity: 0.00 in all"):
        go(FirstSteps(500, strict=True), [0.0] * STEPS)


@pytest.mark.parametrize(
    ("values", "weight"), [([0.0] * (STEPS - 1) + [0.1], 1.0), ([0.0] * STEPS, 0.0), ([0.0] * 3, 1.0)]
)
def test_what_acts_or_does_not_count_is_not(values, weight, capsys):
    go(FirstSteps(500, strict=True), values, weight)
    assert "idle_term" not in capsys.readouterr().out
