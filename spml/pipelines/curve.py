"""The curve of a training run: its losses and validations over the steps, kept on disk beside the snapshots."""

import time
from pathlib import Path
from typing import Any

from spml.engine.loop import Record
from spml.files import read_json, write_json
from spml.tasks import Task

CURVE = "curve.json"
POINTS = 100  # of a whole run


class Curve:
    """A callback of `spml.train` that writes `curve.json`: about 100 points, and what a resumed run had before.

    A point has "step" (the last one), "seconds" since the training began, its set-up included, without the time between
    a stop and the next start, and for each number of the steps' records the
    mean over the steps since the point before; a validation is the last one.
    """

    def __init__(self, folder: Path, max_iteration: int) -> None:
        self.path = folder / CURVE
        self.every, self.last = max(1, max_iteration // POINTS), max_iteration - 1
        self.points: list[Record] | None = None  # read at the first step, which says where the run goes on
        self.before, self.begin = 0.0, time.monotonic()
        self.since: list[Record] = []

    def __call__(self, step: int, losses: Record, task: Task) -> None:
        """Take the record of a step, and write the file where a point is due."""
        if self.points is None:
            self.points = [point for point in read_curve(self.path.parent) if point["step"] < step]
            self.before = self.points[-1]["seconds"] if self.points else 0.0
        self.since.append(losses)
        if (step + 1) % self.every == 0 or step == self.last:
            self._add(step)

    def _add(self, step: int) -> None:
        assert self.points is not None
        names = dict.fromkeys(name for record in self.since for name in record if name != "step")
        point: Record = {"step": step, "seconds": round(self.before + time.monotonic() - self.begin, 2)}
        for name in names:
            values = [record[name] for record in self.since if name in record]
            point[name] = values[-1] if name.startswith("validation_") else sum(values) / len(values)
        self.points.append(point)
        self.since = []
        write_json(self.path, self.points)

    def close(self) -> None:
        """Write the point of a run that was stopped."""
        if self.since:
            self._add(int(self.since[-1]["step"]))


def read_curve(folder: Path) -> list[Record]:
    """The points of a run's folder; none where an earlier version trained it. Raises UserError for a damaged file."""
    path = folder / CURVE
    return read_json(path, "the curve of a training run") if path.is_file() else []


def training_seconds(folder: Path) -> float | None:
    """The time of a run with the set-up of each of its starts; None where nothing says it."""
    points: list[dict[str, Any]] = read_curve(folder)
    return round(points[-1]["seconds"], 1) if points else None
