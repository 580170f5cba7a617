"""What the first steps of a run tell: how long it will take, and which weighted terms cannot act."""

import time
from pathlib import Path

from spml.engine.loop import Record
from spml.errors import UserError
from spml.processes import say
from spml.tasks import Task

STEPS = 10
IDLE = {"feature_affinity": 0.01}  # the largest value of a term that does nothing; labelled segments reach themselves


class FirstSteps:
    """A callback that speaks once, after ten steps.

    Args:
        last: `train.max_iteration`.
        page: a text file that the line on the time is added to, if it is there; None: it is printed alone.
        strict: a weighted term that has done nothing in every one of these steps ends the run, instead of a warning.

    Raises:
        UserError: with `strict`; it names the terms.
    """

    def __init__(self, last: int, page: Path | None = None, strict: bool = False) -> None:
        self.last, self.page, self.strict = last, page, strict
        self.begin, self.seen = 0.0, 0
        self.zero: set[str] | None = None

    def __call__(self, step: int, losses: Record, task: Task) -> None:
        """Take note of a finished step. The first is not timed: it allocates memory and starts the workers."""
        self.seen += 1
        if self.seen == 1:
            self.begin = time.monotonic()
        zero = {name for name, weight in task.weights.items() if weight and abs(losses[name]) <= IDLE.get(name, 0.0)}
        self.zero = zero if self.zero is None else self.zero & zero
        if self.seen == STEPS:
            self._tell((time.monotonic() - self.begin) / (STEPS - 1), self.last - step - 1)

    def _tell(self, seconds: float, left: int) -> None:
        if left > 0:
            line = f"time          about {_duration(seconds * left)} for {left} more steps, {seconds:.2f} s each"
            say(line)
            if self.page is not None and self.page.is_file():
                with open(self.page, "a", encoding="utf-8") as file:
                    file.write(line + "\n")
        if not self.zero:
            return
        told = (
            f"{', '.join(sorted(self.zero))}: 0.00 in all of the first {STEPS} steps, so it cannot act; expected over-"
            "segmentations for image_similarity, a lower threshold for feature_affinity, labelled pixels for the others"
        )
        if self.strict:
            raise UserError(f"--strict: {told}")
        say(f"warning [idle_term]: {told}")


def _duration(seconds: float) -> str:
    """`50 s`, `12 min` or `3.5 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
