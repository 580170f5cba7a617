"""The result of a comparison: what the runs of each row gave, as JSON and as a plain table."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from spml.pipelines.compared_run import PREDICTORS, READ_OUT, ComparedRun
from spml.pipelines.comparison import Row
from spml.visualize.report import table


@dataclass
class Found:
    """What the runs of a row gave."""

    row: Row
    ready: bool = True  # False: no runs, as its labels or all its settings failed
    setting: int = 0
    runs: list[ComparedRun] = field(default_factory=list)  # those that ended well, seed by seed
    outcomes: list[dict[str, Any]] = field(default_factory=list)  # of these
    dev: dict[int, float] = field(default_factory=dict)  # setting -> mIoU on dev, per cent
    failed: list[str] = field(default_factory=list)


def collect(rows: Sequence[Found]) -> dict[str, Any]:
    """The result of a comparison.

    Returns:
        For each row, under `<method>` or `<annotation>/<method>`: `mean_iou` (the classifier's, mean over seeds, per
        cent, on dataset.test_data_list), `retrieval_mean_iou`, the same for each seed, their standard deviations over
        seeds where there are several, `training_seconds`, and `setting`, the overrides of the chosen setting. With a
        search, `tried` has each setting with its `dev_mean_iou`. `failed` has a line for each run that failed; a row
        without any run has no figures. `seconds`: of all runs.
    """
    result: dict[str, Any] = {one.row.key: _collect_row(one) for one in rows}
    result["seconds"] = round(sum(outcome["seconds"] for one in rows for outcome in one.outcomes), 1)
    return result


def _collect_row(one: Found) -> dict[str, Any]:
    found: dict[str, Any] = {"setting": list(one.row.method.grid[one.setting])}
    if one.outcomes:
        found["training_seconds"] = training_seconds(one)
        for figure in PREDICTORS.values():
            values = [outcome[figure] for outcome in one.outcomes]
            found[figure] = round(statistics.mean(values), 2)
            if len(values) > 1:
                found[f"{figure}_std"] = round(statistics.stdev(values), 2)
                found[f"{figure}_seeds"] = values
    if one.dev:
        grid = one.row.method.grid
        found["tried"] = [{"setting": list(grid[at]), "dev_mean_iou": value} for at, value in sorted(one.dev.items())]
    if one.failed:
        found["failed"] = one.failed
    return found


def training_seconds(one: Found) -> float | None:
    """The time of a training, mean over the seeds that have one."""
    times = [outcome["training_seconds"] for outcome in one.outcomes if outcome["training_seconds"] is not None]
    return round(statistics.mean(times), 1) if times else None


def failures(result: Mapping[str, Any]) -> list[str]:
    """The lines of the runs that failed."""
    return [line for found in result.values() if isinstance(found, dict) for line in found.get("failed", ())]


def summary(result: Mapping[str, Any]) -> str:
    """The table of a comparison, in per cent."""
    rows = []
    for method, found in result.items():
        if not isinstance(found, dict):
            continue
        cells = []
        for figure in PREDICTORS.values():
            spread = found.get(f"{figure}_std")
            value = f"{found[figure]:.1f}" if figure in found else "failed"
            cells.append(value + (f" +- {spread:.1f}" if spread is not None else ""))
        seconds = found.get("training_seconds")
        rows.append((method, *cells, "-" if seconds is None else f"{seconds:.0f}"))
    return table(rows, ("method", *(f"mIoU, {name}" for name in READ_OUT.values()), "training s"))
