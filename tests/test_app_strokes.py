"""Strokes against a slow reference that asks every pixel, and what a page may not send."""

from fractions import Fraction

import numpy as np
import pytest

from spml.app.strokes import Stroke, boxes, paint, read_stroke, scaled
from spml.data.raster import KINDS
from spml.errors import UserError

SIZE = (23, 31)


def thin(points: list[tuple[float, float]]) -> set[tuple[int, int]]:
    """The pixels (x, y) of a line one pixel wide, by exact fractions."""
    found = set()
    for (x0, y0), (x1, y1) in zip(points, points[1:] or points, strict=False):
        start, end = (int(np.floor(x0)), int(np.floor(y0))), (int(np.floor(x1)), int(np.floor(y1)))
        count = max(abs(end[0] - start[0]), abs(end[1] - start[1]))
        for k in range(count + 1):
            part = Fraction(k, max(count, 1))
            x, y = (a + (b - a) * part + Fraction(1, 2) for a, b in zip(start, end, strict=True))
            found.add((x.numerator // x.denominator, y.numerator // y.denominator))
    return found


def distance(x: float, y: float, a: tuple[float, float], b: tuple[float, float]) -> float:
    """From a point to a piece of a line: to its foot if that lies on it, else to the nearer end."""
    dx, dy = b[0] - a[0], b[1] - a[1]
    along = (x - a[0]) * dx + (y - a[1]) * dy
    if along <= 0 or dx == dy == 0:
        return float(np.hypot(x - a[0], y - a[1]))
    if along >= dx * dx + dy * dy:
        return float(np.hypot(x - b[0], y - b[1]))
    return abs((x - a[0]) * dy - (y - a[1]) * dx) / float(np.hypot(dx, dy))


def crossings(x: float, y: float, points: list[tuple[float, float]]) -> int:
    """How many edges of a polygon a ray to the right crosses."""
    count = 0
    for (x0, y0), (x1, y1) in zip(points, [*points[1:], points[0]], strict=True):
        if (y0 <= y) != (y1 <= y) and x < x0 + (y - y0) / (y1 - y0) * (x1 - x0):
            count += 1
    return count


def reference(stroke: Stroke) -> np.ndarray:
    """Every pixel asked, one after the other."""
    inside = np.zeros(SIZE, bool)
    points = list(stroke.points)
    if stroke.kind == "box":
        (x0, y0), (x1, y1) = np.min(points, 0), np.max(points, 0)
        for row, column in np.ndindex(*SIZE):
            x, y = column + 0.5, row + 0.5
            wide, high = max((x1 - x0) / 4, 1e-9), max((y1 - y0) / 4, 1e-9)
            inside[row, column] = ((x - (x0 + x1) / 2) / wide) ** 2 + ((y - (y0 + y1) / 2) / high) ** 2 <= 1
        return inside
    line = [*points, points[0]] if stroke.kind == "polygon" else points
    pixels = thin(line)
    for row, column in np.ndindex(*SIZE):
        x, y = column + 0.5, row + 0.5
        near = min(distance(x, y, a, b) for a, b in zip(line, line[1:] or line, strict=False))
        inside[row, column] = (column, row) in pixels or (stroke.width > 1 and near <= stroke.width / 2)
        if stroke.kind == "polygon" and stroke.filled:
            inside[row, column] |= crossings(x, y, points) % 2 == 1
    return inside


@pytest.mark.parametrize("kind", KINDS)
def test_pixels_are_those_of_the_reference(kind: str) -> None:
    rng = np.random.default_rng(sorted(KINDS).index(kind))
    for trial in range(25):
        count = {"point": 1, "line": 2, "box": 2, "polygon": 5}.get(kind, 1 + trial % 6)
        points = tuple((float(x), float(y)) for x, y in rng.uniform(-6, 37, (count, 2)))
        if trial % 5 == 0:
            points = tuple((float(round(x)), float(round(y))) for x, y in points)  # on the grid: ties
        width = float(rng.choice([0.4, 1, 1.2, 2, 3.7, 9]))
        stroke = Stroke("a", kind, None if kind == "erase" else "k", width, points, trial % 2 == 0)
        onto = np.full(SIZE, 254 if stroke.key else 7, np.uint8)
        found = paint([stroke], {"k": 7}, SIZE, onto) != onto
        assert (found == reference(stroke)).all(), stroke


def test_a_brush_of_one_pixel_is_one_pixel_wide() -> None:
    label = paint([Stroke("a", "brush", "k", 1, ((2.5, 3.5), (20.5, 12.5)))], {"k": 1}, SIZE)
    assert ((label == 1).sum(0)[2:21] == 1).all() and (label == 1).sum() == 19


def test_later_strokes_cover_and_the_eraser_takes_away() -> None:
    strokes = [
        Stroke("a", "line", "one", 5, ((0, 10), (30, 10))),
        Stroke("b", "line", "two", 3, ((15, 0), (15, 22))),
        Stroke("c", "erase", None, 4, ((25, 10), (30, 10))),
        Stroke("d", "point", "gone", 3, ((5, 10),)),
    ]
    label = paint(strokes, {"one": 1, "two": 2}, SIZE)
    assert label[10, 15] == 2 and label[10, 10] == 1 and label[10, 28] == 254 and label[0, 0] == 254
    assert label[10, 5] == 254  # of a class that is no more
    assert (paint(strokes[1:], {"one": 1, "two": 2}, SIZE, paint(strokes[:1], {"one": 1}, SIZE)) == label).all()


def test_a_box_says_where_its_class_may_lie() -> None:
    strokes = [Stroke("a", "box", "k", 1, ((20, 15), (4, 5))), Stroke("b", "point", "k", 1, ((28.5, 2.5),))]
    (allowed,) = boxes(strokes, {"k": 3}, SIZE).values()
    expected = np.zeros(SIZE, bool)
    expected[5:15, 4:20] = True
    expected[2, 28] = True
    assert (allowed == expected).all()
    assert boxes(strokes[1:], {"k": 3}, SIZE) == {}


def test_scaling_keeps_a_pixel() -> None:
    small = scaled(Stroke("a", "line", "k", 1, ((8, 8), (16, 8))), 0.25)
    assert small.points == ((2, 2), (4, 2)) and small.width == 1


def test_json_comes_back() -> None:
    stroke = Stroke("a", "polygon", "k", 2.5, ((1, 2), (3, 4.5), (5, 0)), True, 4)
    assert read_stroke(stroke.as_json()) == stroke


GOOD = {"id": "a", "kind": "brush", "class": "k", "width": 2, "points": [[1, 2]], "filled": False}


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "spray"},
        {"kind": ["brush"]},
        {"id": ""},
        {"id": 3},
        {"id": "a\nb"},
        {"class": None},
        {"class": "k" * 101},
        {"width": 0},
        {"width": -1},
        {"width": 1e9},
        {"width": True},
        {"width": float("nan")},
        {"width": "2"},
        {"points": []},
        {"points": [[1]]},
        {"points": [[1, 2, 3]]},
        {"points": [[1, float("inf")]]},
        {"points": [[1, 1e9]]},
        {"points": [["1", "2"]]},
        {"points": "12"},
        {"points": [[1, 2]] * 20_001},
        {"kind": "point", "points": [[1, 2], [3, 4]]},
        {"kind": "box", "points": [[1, 2]]},
        {"kind": "polygon", "points": [[1, 2], [3, 4]]},
        {"filled": 1},
        {"points": [[0, 0], [90_000, 0]] * 20},
        {"points": [[1, 2]] * 2_000, "width": 900},
        {"group": "a"},
        {"group": True},
    ],
)
def test_what_is_no_stroke(change: dict) -> None:
    with pytest.raises(UserError, match="expected") as caught:
        read_stroke({**GOOD, **change})
    assert len(str(caught.value)) < 250 and "\n" not in str(caught.value)


def test_no_object_is_no_stroke() -> None:
    with pytest.raises(UserError, match="expected an object, got list"):
        read_stroke([])
