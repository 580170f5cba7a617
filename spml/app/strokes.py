"""Strokes: what a page sends, checked, and painted into labels as the page paints them.

Coordinates are pixels of the upright image, (0, 0) the top left corner of the top left pixel, so the centre of the
pixel in column i and row j is (i + 0.5, j + 0.5). Later strokes cover earlier ones.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from spml.classes import UNLABELLED
from spml.errors import UserError

KINDS = {"brush": 1, "line": 2, "point": 1, "box": 2, "polygon": 3, "erase": 1}  # and their fewest points
EXACT = {"line": 2, "point": 1, "box": 2}  # kinds with just so many points
MAX_POINTS, MAX_WIDTH, MAX_PLACE = 20_000, 1_000.0, 100_000.0
MAX_WORD = 100  # characters of an id or a key
REACH, CELLS = 16, 1 << 20  # pixels of the shortest pieces' windows; cells that are computed at once, about
BOX_SHARE = 0.5  # of a box's width and height, the axes of the ellipse that teaches its class


@dataclass(frozen=True)
class Stroke:
    """One stroke, as the journal and `strokes/*.json` hold it."""

    id: str
    kind: str  # of KINDS
    key: str | None  # of its class; None: it erases
    width: float  # pixels
    points: tuple[tuple[float, float], ...]  # (x, y)
    filled: bool = False  # of a polygon: its inside, too

    def as_json(self) -> dict[str, Any]:
        """What `read_stroke` reads."""
        points = [list(point) for point in self.points]
        named = {"id": self.id, "kind": self.kind, "class": self.key}
        return {**named, "width": self.width, "points": points, "filled": self.filled}


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
    return Stroke(read_word(content.get("id"), "id of a stroke"), kind, key, float(width), points, filled)


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


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def scaled(stroke: Stroke, ratio: float) -> Stroke:
    """The stroke on an image that is `ratio` times as large."""
    if ratio == 1:
        return stroke
    points = tuple((x * ratio, y * ratio) for x, y in stroke.points)
    return replace(stroke, points=points, width=max(1.0, stroke.width * ratio))


def paint(
    strokes: Sequence[Stroke], ids: Mapping[str, int], size: tuple[int, int], onto: np.ndarray | None = None
) -> np.ndarray:
    """The labels that strokes say: of a box the inner ellipse alone.

    Args:
        strokes: painted in their order.
        ids: key of a class to what is painted; strokes of other classes paint 254.
        size: (H, W).
        onto: (H, W) uint8 to paint on, left as it is.

    Returns:
        (H, W) uint8: ids, 254 where no stroke says anything.
    """
    label = np.full(size, UNLABELLED, np.uint8) if onto is None else onto.copy()
    for stroke in strokes:
        value = UNLABELLED if stroke.key is None else ids.get(stroke.key, UNLABELLED)
        rows, columns, inside = covered(stroke, size)
        label[rows, columns][inside] = value
    return label


def boxes(strokes: Sequence[Stroke], ids: Mapping[str, int], size: tuple[int, int]) -> dict[int, np.ndarray]:
    """Class id to (H, W) bool, where the class may lie: in its boxes, and under its other strokes. Unboxed: absent."""
    found: dict[int, np.ndarray] = {}
    for key in {stroke.key for stroke in strokes if stroke.kind == "box"}:
        if key is None or key not in ids:
            continue
        allowed = found[ids[key]] = np.zeros(size, bool)
        for stroke in strokes:
            if stroke.key == key:
                rows, columns, inside = covered(stroke, size, whole_box=True)
                allowed[rows, columns] |= inside
    return found


def covered(stroke: Stroke, size: tuple[int, int], *, whole_box: bool = False) -> tuple[slice, slice, np.ndarray]:
    """The pixels of a stroke: a window, rows and columns, and (h, w) bool inside it.

    A brush, a line, a point, an eraser and the rim of a polygon cover the pixels whose centres lie within half the
    width, and those of the thin line, see `_thin`. A polygon that is filled covers those whose centres lie inside by
    the even-odd rule as well.
    """
    points = np.array(stroke.points, float)
    if stroke.kind == "box":
        return _box(points, size, whole_box)
    if stroke.kind == "polygon":
        points = np.concatenate([points, points[:1]])
    reach = stroke.width / 2 + 1
    rows, columns = _window(points.min(0) - reach, points.max(0) + reach, size)
    inside = np.zeros((rows.stop - rows.start, columns.stop - columns.start), bool)
    if not inside.size:
        return rows, columns, inside
    origin = np.array([columns.start, rows.start], float)
    local = points - origin
    _thin(points, inside, (columns.start, rows.start))
    if stroke.width > 1:
        _thick(local, stroke.width / 2, inside)
    if stroke.kind == "polygon" and stroke.filled:
        inside |= _even_odd(local, inside.shape)
    return rows, columns, inside


def _window(low: np.ndarray, high: np.ndarray, size: tuple[int, int]) -> tuple[slice, slice]:
    """Rows and columns of (H, W) from the corner `low` (x, y) to `high`, cut at the border."""
    left, top = (int(np.clip(math.floor(value), 0, side)) for value, side in zip(low, size[::-1], strict=True))
    right, bottom = (int(np.clip(math.ceil(value), 0, side)) for value, side in zip(high, size[::-1], strict=True))
    return slice(top, max(top, bottom)), slice(left, max(left, right))


def _thin(points: np.ndarray, inside: np.ndarray, origin: tuple[int, int]) -> None:
    """A line one pixel wide: between the pixels (x0, y0) and (x1, y1) under two points those at
    (x0 + round(k dx / n), y0 + round(k dy / n)) for k = 0..n, n = max(|dx|, |dy|), halves rounded up.
    """
    pixel = np.floor(points).astype(np.int64)
    for start, end in zip(pixel[:-1], pixel[1:], strict=True) if len(pixel) > 1 else [(pixel[0], pixel[0])]:
        step = end - start
        count = int(np.abs(step).max())
        k = np.arange(count + 1)
        half = max(1, count)
        x = start[0] + (2 * k * step[0] + half) // (2 * half) - origin[0]
        y = start[1] + (2 * k * step[1] + half) // (2 * half) - origin[1]
        within = (x >= 0) & (y >= 0) & (x < inside.shape[1]) & (y < inside.shape[0])
        inside[y[within], x[within]] = True


def _thick(points: np.ndarray, radius: float, inside: np.ndarray) -> None:
    """The pixels whose centres lie within `radius` of a line through points (x, y).

    All pieces of about one length are computed at once, each in a window of its own: a hand's brush has hundreds.
    """
    start, end = (points[:-1], points[1:]) if len(points) > 1 else (points, points)
    reach = np.abs(end - start).max(1)
    order = np.argsort(reach, kind="stable")
    while len(order):
        side = int(2 * max(reach[order[0]], REACH) + 2 * radius) + 3
        count = max(
            1, min(int(np.searchsorted(reach[order], max(2 * reach[order[0]], REACH), "right")), CELLS // side**2)
        )
        _windows(start[order[:count]], end[order[:count]], radius, side, inside)
        order = order[count:]


def _windows(start: np.ndarray, end: np.ndarray, radius: float, side: int, inside: np.ndarray) -> None:
    """The pixels near pieces (n, 2) of a line, each looked for in a window of `side` pixels."""
    corner = np.floor(np.minimum(start, end) - radius).astype(np.int64)
    column, row = (corner[:, axis, None] + np.arange(side) for axis in (0, 1))  # (n, side)
    x, y = (column + 0.5 - start[:, :1])[:, None, :], (row + 0.5 - start[:, 1:])[:, :, None]
    step_x, step_y = ((end - start)[:, axis, None, None] for axis in (0, 1))
    length = np.square(step_x) + np.square(step_y)
    place = np.clip((x * step_x + y * step_y) / np.where(length > 0, length, 1), 0, 1)
    near = np.square(x - place * step_x) + np.square(y - place * step_y) <= radius**2
    near &= ((row >= 0) & (row < inside.shape[0]))[:, :, None] & ((column >= 0) & (column < inside.shape[1]))[
        :, None, :
    ]
    piece, down, right = near.nonzero()
    inside[row[piece, down], column[piece, right]] = True


def _even_odd(points: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """(h, w) bool: from the centre of a pixel to the right, an odd number of edges of closed `points` is crossed."""
    inside = np.zeros(size, bool)
    x = np.arange(size[1])[None, :] + 0.5
    for (x0, y0), (x1, y1) in zip(points[:-1], points[1:], strict=True):
        if y0 == y1:
            continue
        rows = slice(*(int(np.clip(math.ceil(value - 0.5), 0, size[0])) for value in sorted((y0, y1))))
        y = np.arange(rows.start, rows.stop)[:, None] + 0.5
        inside[rows] ^= x < x0 + (y - y0) * (x1 - x0) / (y1 - y0)
    return inside


def _box(points: np.ndarray, size: tuple[int, int], whole: bool) -> tuple[slice, slice, np.ndarray]:
    """The pixels of a box from corner to corner whose centres lie in it; or in its inner ellipse."""
    low, high = points.min(0), points.max(0)
    rows, columns = _window(low, high, size)
    x = np.arange(columns.start, columns.stop)[None, :] + 0.5
    y = np.arange(rows.start, rows.stop)[:, None] + 0.5
    if whole:
        return rows, columns, (x >= low[0]) & (x < high[0]) & (y >= low[1]) & (y < high[1])
    middle, axes = (low + high) / 2, np.maximum(BOX_SHARE * (high - low) / 2, 1e-9)
    return rows, columns, ((x - middle[0]) / axes[0]) ** 2 + ((y - middle[1]) / axes[1]) ** 2 <= 1
