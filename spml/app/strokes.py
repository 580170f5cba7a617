"""Strokes: what a page sends, checked, and painted into labels as the page paints them, see spml.data.raster."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from spml.data import raster
from spml.data.raster import KINDS, Shape
from spml.errors import UserError

EXACT = {"line": 2, "point": 1, "box": 2}  # kinds with just so many points
MAX_POINTS, MAX_WIDTH, MAX_PLACE = 20_000, 1_000.0, 100_000.0
MAX_LENGTH, MAX_WORK = 500_000, 500_000_000  # pixels along a stroke; pixels that painting it looks at
MAX_GROUP = 1 << 31
MAX_WORD = 100  # characters of an id or a key


@dataclass(frozen=True)
class Stroke:
    """One stroke, as the journal and `strokes/*.json` hold it."""

    id: str
    kind: str  # of KINDS
    key: str | None  # of its class; None: it erases
    width: float  # pixels
    points: tuple[tuple[float, float], ...]  # (x, y)
    filled: bool = False  # of a polygon: its inside, too
    group: int | None = None  # strokes of one number belong to one object

    def as_json(self) -> dict[str, Any]:
        """What `read_stroke` reads."""
        points = [list(point) for point in self.points]
        named = {"id": self.id, "kind": self.kind, "class": self.key}
        group = {} if self.group is None else {"group": self.group}
        return {**named, "width": self.width, "points": points, "filled": self.filled, **group}


def read_stroke(content: Any) -> Stroke:
    """A stroke of what a page sent. Raises UserError: what is expected, and what came."""
    if not isinstance(content, Mapping):
        raise UserError(f"stroke: expected an object, got {type(content).__name__}")
    kind = content.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        raise UserError(f"stroke: expected kind to be one of {', '.join(KINDS)}, got {short(kind)}")
    points = _points(content.get("points"), kind)
    key = None if kind == "erase" else read_word(content.get("class"), "class of a stroke")
    width = content.get("width", 1)
    if not _is_number(width) or not 0 < width <= MAX_WIDTH:
        raise UserError(f"stroke: expected a width above 0 and up to {MAX_WIDTH:g}, got {short(width)}")
    filled = content.get("filled", kind == "polygon")
    if not isinstance(filled, bool):
        raise UserError(f"stroke: expected filled to be true or false, got {short(filled)}")
    _check_work(points, float(width))
    group = content.get("group")
    if group is not None and (type(group) is not int or abs(group) > MAX_GROUP):
        raise UserError(f"stroke: expected group to be a whole number, got {short(group)}")
    return Stroke(read_word(content.get("id"), "id of a stroke"), kind, key, float(width), points, filled, group)


def read_word(value: Any, what: str) -> str:
    """A short printable text. Raises UserError."""
    if not isinstance(value, str) or not 0 < len(value) <= MAX_WORD or not value.isprintable():
        raise UserError(f"{what}: expected 1 to {MAX_WORD} printable characters, got {short(value)}")
    return value


def short(value: Any) -> str:
    """A value in an error message, cut, on one line."""
    text = ascii(value) if isinstance(value, str) else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _points(content: Any, kind: str) -> tuple[tuple[float, float], ...]:
    if not isinstance(content, list) or not KINDS[kind] <= len(content) <= EXACT.get(kind, MAX_POINTS):
        got = f"{len(content)} points" if isinstance(content, list) else short(content)
        raise UserError(
            f"stroke: expected {KINDS[kind]} to {EXACT.get(kind, MAX_POINTS)} points of a {kind}, got {got}"
        )
    for point in content:
        right = isinstance(point, list) and len(point) == 2 and all(map(_is_number, point))
        if not right or max(map(abs, point)) > MAX_PLACE:
            raise UserError(f"stroke: expected points [x, y] within +-{MAX_PLACE:g}, got {short(point)}")
    return tuple((float(x), float(y)) for x, y in content)


def _check_work(points: Sequence[tuple[float, float]], width: float) -> None:
    """Raise UserError for a stroke that nobody draws, and that would take minutes or gigabytes to paint."""
    length = sum(max(abs(x1 - x0), abs(y1 - y0)) for (x0, y0), (x1, y1) in pairwise([*points, points[0]]))
    if length > MAX_LENGTH or (len(points) + length / raster.REACH) * (width + raster.REACH) ** 2 > MAX_WORK:
        raise UserError(f"stroke: expected a shorter one, got {length:.0f} pixels by {width:g}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def scaled(stroke: Stroke, ratio: float) -> Stroke:
    """The stroke on an image that is `ratio` times as large."""
    if ratio == 1:
        return stroke
    points = tuple((x * ratio, y * ratio) for x, y in stroke.points)
    return replace(stroke, points=points, width=max(1.0, stroke.width * ratio))


def shape_of(stroke: Stroke) -> Shape:
    """The stroke as it is painted; of a polygon that is not filled the border."""
    if stroke.kind == "polygon" and not stroke.filled:
        return Shape("brush", stroke.key, (*stroke.points, stroke.points[0]), stroke.width, stroke.group)
    return Shape(stroke.kind, stroke.key, stroke.points, stroke.width, stroke.group)


def paint(
    strokes: Sequence[Stroke], ids: Mapping[str, int], size: tuple[int, int], onto: np.ndarray | None = None
) -> np.ndarray:
    """The labels that strokes say, see spml.data.raster: of a box the inner ellipse alone.

    Args:
        strokes: painted in their order.
        ids: key of a class to what is painted; strokes of other classes paint 254.
        size: (H, W).
        onto: (H, W) uint8 to paint on, left as it is.

    Returns:
        (H, W) uint8: ids, 254 where no stroke says anything.
    """
    return raster.paint([shape_of(stroke) for stroke in strokes], ids, size, onto)


def boxes(strokes: Sequence[Stroke], ids: Mapping[str, int], size: tuple[int, int]) -> dict[int, np.ndarray]:
    """Class id to (H, W) bool, where the class may lie: in its boxes, and under its other strokes. Unboxed: absent."""
    found: dict[int, np.ndarray] = {}
    for key in {stroke.key for stroke in strokes if stroke.kind == "box"}:
        if key is None or key not in ids:
            continue
        others = [stroke for stroke in strokes if stroke.key == key and stroke.kind != "box"]
        allowed = found[ids[key]] = paint(others, {key: 1}, size) == 1
        for stroke in strokes:
            if stroke.key == key and stroke.kind == "box":
                x0, y0, x1, y1 = raster.box_pixels(shape_of(stroke), size)
                allowed[y0:y1, x0:x1] = True
    return found
