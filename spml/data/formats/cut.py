"""Cuts shapes to their image, and takes out of them what an eraser took."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from spml.data.formats.base import Annotation, extent
from spml.data.raster import Point, Shape, covered, paint

Array = NDArray


def cut(shape: Shape, size: tuple[int, int]) -> list[Shape]:
    """What of a shape lies inside an image (H, W): itself, if it does as a whole; a line may fall into several."""
    limit = (float(size[1]), float(size[0]))
    if all(0 <= x <= limit[0] and 0 <= y <= limit[1] for x, y in shape.points):
        return [shape]
    if shape.kind == "point":
        return []
    if shape.kind == "box":
        low, high = (np.clip(corner, 0, limit).tolist() for corner in extent(shape.points))
        return [replace(shape, points=(tuple(low), tuple(high)))] if low[0] < high[0] and low[1] < high[1] else []
    if shape.kind == "polygon":
        points = _cut_polygon(shape.points, limit)
        return [replace(shape, points=points)] if len(points) >= 3 else []
    parts = _cut_line(shape.points, limit)
    kind = "brush" if shape.kind == "line" and any(len(part) != 2 for part in parts) else shape.kind
    return [replace(shape, kind=kind, points=part) for part in parts]


def _cut_polygon(points: Sequence[Point], limit: Point) -> tuple[Point, ...]:
    """A polygon cut along the four sides of the image, one after the other; what it covers inside stays the same."""
    held = [tuple(point) for point in points]
    for axis, side, sign in ((0, 0.0, 1), (0, limit[0], -1), (1, 0.0, 1), (1, limit[1], -1)):
        result: list[tuple[float, ...]] = []
        for start, end in zip(held, held[1:] + held[:1], strict=True):
            inside, after = ((point[axis] - side) * sign >= 0 for point in (start, end))
            if inside:
                result.append(start)
            if inside != after:
                part = (side - start[axis]) / (end[axis] - start[axis])
                other = start[1 - axis] + part * (end[1 - axis] - start[1 - axis])
                result.append((side, other) if axis == 0 else (other, side))
        held = result
    return tuple((float(x), float(y)) for x, y in held)


def _cut_line(points: Sequence[Point], limit: Point) -> list[tuple[Point, ...]]:
    """The parts of a line that lie inside the image."""
    parts: list[list[Point]] = []
    for start, end in zip(points, points[1:] if len(points) > 1 else points, strict=False):
        step = (end[0] - start[0], end[1] - start[1])
        first, last = 0.0, 1.0
        for axis in (0, 1):
            if step[axis]:
                near, far = sorted((-start[axis] / step[axis], (limit[axis] - start[axis]) / step[axis]))
                first, last = max(first, near), min(last, far)
            elif not 0 <= start[axis] <= limit[axis]:
                last = -1.0
        if first <= last:
            head, tail = (start if not first else _at(start, step, first, limit)), end
            if last < 1:
                tail = _at(start, step, last, limit)
            if parts and first == 0 and parts[-1][-1] == start:
                parts[-1].append(tail)
            else:
                parts.append([head, tail])
    return [tuple(part) for part in parts]


def _at(start: Point, step: Point, part: float, limit: Point) -> Point:
    """A place on a line, inside the image whatever rounding does."""
    x, y = (min(max(a + part * b, 0.0), side) for a, b, side in zip(start, step, limit, strict=True))
    return x, y


def without_erasers(annotation: Annotation, names: Sequence[str]) -> Annotation:
    """An annotation whose shapes say the same without its erasers, for formats that have none.

    Lines keep the parts whose middle was left, and so do points; boxes are weak and stay. Polygons that lost a part
    become labels.
    """
    if not any(shape.kind == "erase" for shape in annotation.shapes):
        return annotation
    size = (annotation.height, annotation.width)
    ids = {name: place for place, name in enumerate(names)}
    mask = annotation.mask
    kept: list[Shape] = []
    for place, shape in enumerate(annotation.shapes):
        if shape.kind == "erase":
            continue
        gone = np.zeros(size, bool)
        for later in annotation.shapes[place + 1 :]:
            if later.kind == "erase":
                window, inside = covered(later, size)
                gone[window] |= inside
        if shape.kind == "box" or not gone.any():
            kept.append(shape)
        elif shape.kind == "polygon":
            window, inside = covered(shape, size, rim=False)
            if not (inside & gone[window]).any():
                kept.append(shape)
                continue
            mask = paint((), {}, size) if mask is None else mask.copy()
            mask[window][inside & ~gone[window]] = ids[str(shape.label)]
        else:
            kept += _left(shape, gone)
    return replace(annotation, shapes=kept, mask=mask)


def _left(shape: Shape, gone: Array) -> list[Shape]:
    """The parts of a line or point whose middle lies on no pixel of `gone` (H, W) bool."""
    whole = np.array(shape.points)
    if len(whole) > 1:
        gaps = np.ceil(np.abs(np.diff(whole, axis=0)).max(1)).clip(1).astype(int)
        place = np.concatenate([[0.0], *(i + np.arange(1, n + 1) / n for i, n in enumerate(gaps))])
        order = np.arange(len(whole))
        path = np.stack([np.interp(place, order, whole[:, axis]) for axis in (0, 1)], axis=1)
    else:
        path, place = whole, np.zeros(1)
    pixel = np.floor(path).astype(int).clip(0, np.array(gone.shape[::-1]) - 1)
    free = ~gone[pixel[:, 1], pixel[:, 0]]
    if free.all():
        return [shape]
    edge = np.flatnonzero(np.diff(np.concatenate([[False], free, [False]]).astype(int)))
    parts = []
    for start, end in zip(edge[::2], edge[1::2], strict=True):
        corner = place[start:end] == np.rint(place[start:end])
        corner[[0, -1]] = True
        points = tuple((float(x), float(y)) for x, y in path[start:end][corner])
        parts.append(replace(shape, kind="brush" if len(whole) > 1 else shape.kind, points=points, id=""))
    return parts
