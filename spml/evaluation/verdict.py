"""Whether a figure came out as a config says it does."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

DEFAULT_TOLERANCE = 0.5  # points


@dataclass(frozen=True)
class Verdict:
    """`inside`: whether the figure is within the tolerance; None where it cannot be compared. `line` says it."""

    inside: bool | None
    line: str


def verdict(mean_iou: float, expected: Mapping[str, Any], split: str = "") -> Verdict:
    """Compare a mean IoU with what is expected.

    Args:
        mean_iou: a share in 0..1; NaN, where no pixel counted, is outside.
        expected: a config's `expected`: `mean_iou` and `tolerance` in per cent, `split`, the name of the list that it
            is of. Without a tolerance it is half a point.
        split: the name of the list that was evaluated; a figure of another one is not compared. "": not known.
    """
    figure, tolerance = float(expected["mean_iou"]), expected.get("tolerance")
    tolerance = DEFAULT_TOLERANCE if tolerance is None else float(tolerance)
    of = expected.get("split") or ""
    if of and split and of != split:
        return Verdict(None, f"{figure:g} is expected on {of}; this is {split}, which it says nothing of")
    inside = abs(100 * mean_iou - figure) <= tolerance  # false for NaN
    got = "-" if math.isnan(mean_iou) else f"{100 * mean_iou:.2f}"
    where = f" on {of}" if of else ""
    return Verdict(inside, f"mean IoU {got} is {'within' if inside else 'OUTSIDE'} {figure:g} +- {tolerance:g}{where}")
