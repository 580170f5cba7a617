"""The rasteriser against slow loops over pixels, in exact fractions."""

import math
from fractions import Fraction

import numpy as np
import pytest

from spml.data.raster import Shape, box_pixels, covered, fill_polygon, paint

SIZE = (23, 31)


def whole(shape: Shape, size: tuple[int, int] = SIZE, **options: bool) -> np.ndarray:
    window, inside = covered(shape, size, **options)
    frame = np.zeros(size, bool)
    frame[window] = inside
    return frame


def centres(size: tuple[int, int] = SIZE) -> list[tuple[int, int, Fraction, Fraction]]:
    half = Fraction(1, 2)
    return [(row, column, column + half, row + half) for row in range(size[0]) for column in range(size[1])]


def distance_squared(x: Fraction, y: Fraction, start: tuple, end: tuple) -> Fraction:
    (x0, y0), (x1, y1) = (tuple(map(Fraction, point)) for point in (start, end))
    length = (x1 - x0) ** 2 + (y1 - y0) ** 2
    place = (
        Fraction(0)
        if not length
        else max(Fraction(0), min(Fraction(1), ((x - x0) * (x1 - x0) + (y - y0) * (y1 - y0)) / length))
    )
    return (x - x0 - place * (x1 - x0)) ** 2 + (y - y0 - place * (y1 - y0)) ** 2


def thin(start: tuple, end: tuple) -> set[tuple[int, int]]:
    """Pixels (column, row) of a line one pixel wide: the larger side is walked, the other rounded, halves up."""
    first, last = [math.floor(v) for v in start], [math.floor(v) for v in end]
    count = max(abs(b - a) for a, b in zip(first, last, strict=True))
    found = set()
    for k in range(count + 1):
        part = Fraction(k, count) if count else Fraction(0)
        found.add(tuple(a + math.floor(part * (b - a) + Fraction(1, 2)) for a, b in zip(first, last, strict=True)))
    return found


def drawn(points: list, width: float) -> np.ndarray:
    frame = np.zeros(SIZE, bool)
    pieces = list(zip(points[:-1], points[1:], strict=True)) or [(points[0], points[0])]
    for start, end in pieces:
        for column, row in thin(start, end):
            if 0 <= row < SIZE[0] and 0 <= column < SIZE[1]:
                frame[row, column] = True
        if width > 1:
            for row, column, x, y in centres():
                frame[row, column] |= distance_squared(x, y, start, end) <= Fraction(width) ** 2 / 4
    return frame


def odd(points: list) -> np.ndarray:
    """To the right of a centre an odd number of edges is crossed; of an edge's ends the upper one alone counts."""
    frame = np.zeros(SIZE, bool)
    exact = [tuple(map(Fraction, point)) for point in points]
    for row, column, x, y in centres():
        for (x0, y0), (x1, y1) in zip(exact, exact[1:] + exact[:1], strict=True):
            if (y0 > y) != (y1 > y):
                frame[row, column] ^= x < x0 + (y - y0) / (y1 - y0) * (x1 - x0)
    return frame


@pytest.mark.parametrize("width", [0.3, 1, 2, 3.5, 8])
def test_lines(width: float) -> None:
    rng = np.random.default_rng(int(width * 10))
    for count in (1, 2, 5):
        points = [tuple(point) for point in np.round(rng.uniform(-6, 36, (count, 2)) * 8) / 8]
        kind = "point" if count == 1 else "brush"
        np.testing.assert_array_equal(whole(Shape(kind, "a", tuple(points), width)), drawn(points, width))


def test_polygons() -> None:
    rng = np.random.default_rng(0)
    for count in (3, 4, 7, 12):
        for grid in (1, 2, 8):  # on corners and centres of pixels, too
            points = [tuple(point) for point in np.round(rng.uniform(-5, 36, (count, 2)) * grid) / grid]
            np.testing.assert_array_equal(whole(Shape("polygon", "a", tuple(points)), rim=False), odd(points))
            rim = odd(points) | drawn([*points, points[0]], 1)
            np.testing.assert_array_equal(whole(Shape("polygon", "a", tuple(points))), rim)


def test_neighbours_share_no_pixel() -> None:
    """A common edge, in both directions, at an odd slope: each pixel belongs to one of both polygons."""
    edge = [(3.1, 1.7), (19.3, 20.9)]
    one = fill_polygon(np.array([*edge, (1, 22)]), SIZE)
    two = fill_polygon(np.array([*edge[::-1], (28, 2)]), SIZE)
    assert not (one & two).any()
    both = fill_polygon(np.array([edge[0], (28, 2), edge[1], (1, 22)]), SIZE)
    np.testing.assert_array_equal(one | two, both)


def test_whole_corners_cover_whole_pixels() -> None:
    inside = whole(Shape("polygon", "a", ((3, 4), (10, 4), (10, 9), (3, 9))), rim=False)
    expected = np.zeros(SIZE, bool)
    expected[4:9, 3:10] = True
    np.testing.assert_array_equal(inside, expected)


def test_boxes() -> None:
    shape = Shape("box", "a", ((20, 18), (4, 2)))
    assert box_pixels(shape, SIZE) == (4, 2, 20, 18)
    expected = np.zeros(SIZE, bool)
    for row, column, x, y in centres():
        expected[row, column] = ((x - 12) / 4) ** 2 + ((y - 10) / 4) ** 2 <= 1
    np.testing.assert_array_equal(whole(shape), expected)
    assert box_pixels(Shape("box", "a", ((-5, -5), (99, 99))), SIZE) == (0, 0, 31, 23)
    assert box_pixels(Shape("box", "a", ((3.6, 3.6), (4.4, 4.4))), SIZE)[0::2] == (4, 4)


def test_order_and_eraser() -> None:
    shapes = [
        Shape("polygon", "a", ((0, 0), (20, 0), (20, 20), (0, 20))),
        Shape("brush", "b", ((5, 5), (15, 5)), 3),
        Shape("erase", None, ((10, 0), (10, 20)), 4),
        Shape("point", "a", ((10.5, 10.5),), 1),
        Shape("point", "unknown", ((1.5, 1.5),), 1),
    ]
    label = paint(shapes, {"a": 3, "b": 7}, SIZE)
    assert label.dtype == np.uint8 and label[5, 6] == 7 and label[5, 10] == 254 and label[10, 10] == 3
    assert label[15, 3] == 3 and label[1, 1] == 254 and label[22, 30] == 254
    onto = np.full(SIZE, 1, np.uint8)
    assert (paint([], {}, SIZE, onto=onto) == 1).all()
    assert paint(shapes, {"a": 3, "b": 7}, SIZE, onto=onto)[22, 30] == 1 and (onto == 1).all()


def test_outside_and_tiny() -> None:
    assert not whole(Shape("brush", "a", ((-90, -90), (-50, 300)), 5)).any()
    assert not whole(Shape("polygon", "a", ((50, 50), (60, 50), (60, 60)))).any()
    assert whole(Shape("point", "a", ((0.0, 0.0),), 0.5), (1, 1)).all()
    assert whole(Shape("point", "a", ((30.9, 22.9),))).sum() == 1
    assert not whole(Shape("polygon", "a", ((3, 3), (3, 3), (3, 3))), rim=False).any()
    long = whole(Shape("brush", "a", ((0, 0), (4000, 4000)), 3), (64, 4000))
    assert long[63, 63] and not long[0, 3000]
