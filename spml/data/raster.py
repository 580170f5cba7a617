"""Paints shapes that people drew into labels: brush strokes, lines, points, boxes, polygons, and what an eraser took.

Coordinates are pixels of the upright image, (0, 0) the upper left corner of the upper left pixel: the centre of the
pixel in column i and row j is (i + 0.5, j + 0.5). Shapes are painted in their order; a later one covers earlier ones.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spml.classes import UNLABELLED

Array = NDArray
Point = tuple[float, float]
Window = tuple[slice, slice]  # rows and columns

KINDS = {"brush": 1, "line": 2, "point": 1, "box": 2, "polygon": 3, "erase": 1}  # and their fewest points
WEAK = ("brush", "line", "point", "box")  # kinds that leave pixels of their object without a label
BOX_SHARE = 0.5  # of a box's sides: the axes of the ellipse inside it that has its class
REACH = 64  # pixels: a longer piece of a line is painted in parts, whose windows are small
CELLS = 1 << 20  # pixels of windows that are computed at once


@dataclass(frozen=True)
class Shape:
    """One drawn shape.

    Attributes:
        kind: of KINDS. `erase` takes away what earlier shapes painted.
        label: the name of its class; None for `erase`.
        points: (x, y) each; of a box two opposite corners.
        width: pixels, of what is drawn with a pen; a point is a disc of this diameter.
        group: shapes of one number are parts of one object.
        id: a name of the shape that stays; "" where it has none.
    """

    kind: str
    label: str | None
    points: tuple[Point, ...]
    width: float = 1.0
    group: int | None = None
    id: str = ""


def paint(
    shapes: Sequence[Shape],
    ids: Mapping[str, int],
    size: tuple[int, int],
    onto: Array | None = None,
    *,
    rim: bool = True,
) -> Array:
    """The label that shapes say.

    Args:
        ids: class name to what is painted, 0..255; shapes of other classes paint 254.
        size: (H, W).
        onto: (H, W) uint8 to paint on; it stays as it is.
        rim: see `covered`.

    Returns: (H, W) uint8, 254 where no shape says anything. Of a box its inner ellipse is painted, see BOX_SHARE.
    """
    label = np.full(size, UNLABELLED, np.uint8) if onto is None else onto.copy()
    for shape in shapes:
        window, inside = covered(shape, size, rim=rim)
        label[window][inside] = UNLABELLED if shape.label is None else ids.get(shape.label, UNLABELLED)
    return label


def covered(shape: Shape, size: tuple[int, int], *, rim: bool = True) -> tuple[Window, Array]:
    """The pixels of a shape: a window of the image, and (h, w) bool inside it.

    Brush, line, point and eraser cover a line one pixel wide (see `_paint_thin`) and, if they are wider, the pixels
    whose centres lie within half the width. A polygon covers those whose centres lie inside by the even-odd rule.

    Args:
        rim: a polygon covers its border as well, as a pen on a page does. Without it, its pixels are those of its area.
    """
    points = np.array(shape.points, float).reshape(-1, 2)
    drawn = shape.kind not in ("box", "polygon") or (shape.kind == "polygon" and rim)
    reach = shape.width / 2 + 1 if drawn else 0.0
    window = _window(points.min(0) - reach, points.max(0) + reach, size)
    inside = np.zeros([side.stop - side.start for side in window], bool)
    if inside.size:
        local = points - (window[1].start, window[0].start)
        if shape.kind == "box":
            _paint_ellipse(local, inside)
        if shape.kind == "polygon":
            inside |= fill_polygon(local, (inside.shape[0], inside.shape[1]))
            local = np.concatenate([local, local[:1]])
        if drawn:
            _paint_line(local, shape.width, inside)
    return window, inside


def box_pixels(shape: Shape, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """x0, y0, x1, y1 of the pixels whose centres lie in a box; the last two lie outside. None: x0 = x1 or y0 = y1."""
    low, high = np.min(shape.points, 0), np.max(shape.points, 0)
    corners = np.ceil(np.stack([low, high]) - 0.5).clip(0, size[::-1]).astype(int)
    (x0, y0), (x1, y1) = corners.tolist()
    return x0, y0, x1, y1


def fill_polygon(points: Array, size: tuple[int, int]) -> Array:
    """The pixels (H, W) bool whose centres lie in a closed polygon (N, 2) of x, y, by the even-odd rule.

    A centre on an edge counts to the right of it and below: two polygons with a common edge never share a pixel.
    """
    height, width = size
    toggle = np.zeros((height, width + 1), np.uint8)  # of a row, the columns from which on the inside begins or ends
    start, end = points, np.roll(points, -1, 0)
    first = np.ceil(np.minimum(start[:, 1], end[:, 1]) - 0.5).clip(0, height).astype(np.int64)
    last = np.ceil(np.maximum(start[:, 1], end[:, 1]) - 0.5).clip(0, height).astype(np.int64)
    count = np.maximum(last - first, 0)  # rows whose centres an edge passes
    edge = np.repeat(np.arange(len(points)), count)
    row = np.arange(len(edge)) - np.repeat(np.cumsum(count) - count, count) + first[edge]
    (x0, y0), (x1, y1) = start[edge].T, end[edge].T
    # From the upper end, whatever the direction: both polygons of a common edge compute the same crossing.
    down = y0 < y1
    x0, y0, x1, y1 = np.where(down, (x0, y0, x1, y1), (x1, y1, x0, y0))
    crossing = x0 + (row + 0.5 - y0) / (y1 - y0) * (x1 - x0)
    column = np.ceil(crossing - 0.5).clip(0, width).astype(np.int64)
    np.bitwise_xor.at(toggle, (row, column), 1)
    return np.bitwise_xor.accumulate(toggle, axis=1)[:, :width].astype(bool)


def _window(low: Array, high: Array, size: tuple[int, int]) -> Window:
    """Rows and columns of (H, W) that hold the corners `low` and `high` (x, y), cut at the border."""
    sides = []
    for place in (1, 0):
        limit = size[1 - place]
        begin = math.floor(min(max(low[place], 0), limit))
        end = math.floor(min(max(high[place], -1), limit)) + 1
        sides.append(slice(begin, max(begin, min(end, limit))))
    return sides[0], sides[1]


def _paint_ellipse(corners: Array, inside: Array) -> None:
    """The ellipse in the middle of a box, its axes BOX_SHARE of the box's sides."""
    low, high = corners.min(0), corners.max(0)
    (x, y), (half_x, half_y) = (low + high) / 2, np.maximum(BOX_SHARE * (high - low) / 2, 1e-9)
    column, row = np.arange(inside.shape[1]) + 0.5, np.arange(inside.shape[0])[:, None] + 0.5
    inside |= ((column - x) / half_x) ** 2 + ((row - y) / half_y) ** 2 <= 1


def _paint_line(points: Array, width: float, inside: Array) -> None:
    """The pixels of a line through points (N, 2). All pieces are computed at once: a hand's brush has hundreds."""
    start, end = (points[:-1], points[1:]) if len(points) > 1 else (points, points)
    _paint_thin(start, end, inside)
    if width > 1:
        _paint_thick(start, end, width / 2, inside)


def _paint_thin(start: Array, end: Array, inside: Array) -> None:
    """Lines one pixel wide, as a page draws them, from `start` to `end` (N, 2).

    Between the pixels under both ends, dx columns and dy rows apart, lie n + 1 pixels, n the larger of |dx| and |dy|:
    pixel k is k dx / n columns and k dy / n rows on, rounded, halves up.
    """
    first, last = np.floor(start).astype(np.int64), np.floor(end).astype(np.int64)
    piece, k, count = _parts(np.abs(last - first).max(1) + 1)
    n = np.maximum(1, count - 1)[:, None]
    column, row = (first[piece] + (2 * k[:, None] * (last - first)[piece] + n) // (2 * n)).T
    within = (column >= 0) & (row >= 0) & (column < inside.shape[1]) & (row < inside.shape[0])
    inside[row[within], column[within]] = True


def _paint_thick(start: Array, end: Array, radius: float, inside: Array) -> None:
    """The pixels within `radius` of straight lines (N, 2), each in parts of at most REACH, whose windows are small."""
    piece, k, count = _parts(np.maximum(1, np.ceil(np.abs(end - start).max(1) / REACH)).astype(np.int64))
    start, step = start[piece], (end - start)[piece]
    low, high = (k / count)[:, None], ((k + 1) / count)[:, None]
    one, other = start + low * step, start + high * step
    corner = np.floor(np.minimum(one, other) - radius).astype(np.int64)
    side = int(np.abs(other - one).max() + 2 * radius) + 3
    batch = max(1, CELLS // side**2)
    for begin in range(0, len(piece), batch):
        some = slice(begin, begin + batch)
        _paint_windows(start[some], step[some], low[some], high[some], corner[some], side, radius, inside)


def _paint_windows(
    start: Array, step: Array, low: Array, high: Array, corner: Array, side: int, radius: float, inside: Array
) -> None:
    """The pixels within `radius` of the parts from `low` to `high` (N, 1), of 0..1, of straight lines (N, 2).

    Args:
        corner: (N, 2) column and row from which on a window of `side` pixels holds them.
    """
    column, row = (corner[:, axis, None] + np.arange(side) for axis in (0, 1))  # (N, side)
    x, y = (column + 0.5 - start[:, :1])[:, None, :], (row + 0.5 - start[:, 1:])[:, :, None]
    step_x, step_y = step[:, :1, None], step[:, 1:, None]
    length = step_x**2 + step_y**2
    place = np.clip((x * step_x + y * step_y) / np.where(length > 0, length, 1), low[:, :, None], high[:, :, None])
    near = (x - place * step_x) ** 2 + (y - place * step_y) ** 2 <= radius**2
    near &= ((row >= 0) & (row < inside.shape[0]))[:, :, None]
    near &= ((column >= 0) & (column < inside.shape[1]))[:, None, :]
    piece, down, right = near.nonzero()
    inside[row[piece, down], column[piece, right]] = True


def _parts(counts: Array) -> tuple[Array, Array, Array]:
    """For pieces of `counts` parts each: of every part its piece, its place from 0 on, and how many the piece has."""
    piece = np.repeat(np.arange(len(counts)), counts)
    return piece, np.arange(len(piece)) - np.repeat(np.cumsum(counts) - counts, counts), counts[piece]
