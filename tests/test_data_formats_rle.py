"""Run lengths and patches against pycocotools, and faults in them."""

import numpy as np
import pytest

from spml.data.formats import patches, rle
from spml.data.formats.base import Annotation
from spml.data.raster import Shape, fill_polygon
from spml.data.samples import DataError


def masks() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    found = [rng.random(shape) < part for shape in ((1, 1), (3, 7), (40, 30)) for part in (0.0, 0.05, 0.5, 1.0)]
    large = np.zeros((300, 400), bool)
    large[20:280, 30:390] = True
    return [*found, large]


@pytest.mark.parametrize("order", ["F", "C"])
def test_there_and_back(order: rle.Order) -> None:
    for mask in masks():
        counts = rle.encode(mask, order)
        assert sum(counts) == mask.size and all(counts[1:])
        np.testing.assert_array_equal(rle.decode(counts, mask.shape, "x", order), mask)
        assert rle.decompress(rle.compress(counts), "x") == counts


def test_as_pycocotools() -> None:
    coco = pytest.importorskip("pycocotools.mask")
    for mask in masks():
        theirs = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
        text = rle.compress(rle.encode(mask))
        assert text == theirs["counts"].decode()
        np.testing.assert_array_equal(coco.decode({"size": list(mask.shape), "counts": text.encode()}), mask)
        assert coco.area(theirs) == mask.sum()
        held = coco.frPyObjects({"size": list(mask.shape), "counts": rle.encode(mask)}, *mask.shape)
        np.testing.assert_array_equal(coco.decode(held), mask)


def test_polygons_nearly_as_pycocotools() -> None:
    """It draws polygons five times as large and rounds: areas differ by a part of the border."""
    coco = pytest.importorskip("pycocotools.mask")
    rng = np.random.default_rng(1)
    for _ in range(20):
        angle = np.sort(rng.uniform(0, 2 * np.pi, 9))
        points = 50 + 40 * rng.uniform(0.6, 1, 9)[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1)
        theirs = coco.decode(coco.frPyObjects([points.ravel().tolist()], 100, 100))[..., 0]
        ours = fill_polygon(points, (100, 100))
        border = np.linalg.norm(np.diff(points, axis=0, append=points[:1]), axis=1).sum()
        assert (ours != theirs).sum() <= 0.6 * border


@pytest.mark.parametrize(
    "counts", [[5], [7], [-1, 7], [3, 3.0], [True, 5], ["6"], [10**30], [0] * 20 + [6], [2, 2], [6, 10**12]]
)
def test_bad_run_lengths(counts: list) -> None:
    with pytest.raises(DataError, match="^here: expected run lengths"):
        rle.decode(counts, (2, 3), "here")


@pytest.mark.parametrize("text", ["é", " ", "o" * 9, "ooooo", "~", "P"])
def test_bad_text(text: str) -> None:
    with pytest.raises(DataError, match="^here: "):
        rle.decompress(text, "here")


def test_outline_gives_the_mask_again() -> None:
    for mask in masks()[:-1]:
        if not mask.any():
            continue
        loops = patches.outline(mask)
        again = np.zeros(mask.shape, bool)
        for loop in loops:
            again ^= fill_polygon(np.array(loop), mask.shape)
        np.testing.assert_array_equal(again, mask)
        one = patches.one_polygon(loops)
        np.testing.assert_array_equal(fill_polygon(np.array(one), mask.shape), mask)


def annotation(mask: np.ndarray, shapes: list[Shape]) -> Annotation:
    return Annotation(None, "a.png", mask.shape[1], mask.shape[0], shapes, mask)


def square(left: int, top: int, side: int = 4, **more: int) -> Shape:
    points = [(left, top), (left + side, top), (left + side, top + side), (left, top + side)]
    return Shape("polygon", "cat", tuple((float(x), float(y)) for x, y in points), **more)


def test_instances() -> None:
    mask = np.full((20, 30), 254, np.uint8)
    mask[0:3, 0:3] = mask[3:6, 3:6] = 1  # touch at a corner: one object
    mask[10:14, 10:14] = 1
    mask[10:14, 14:18] = 0
    mask[18:, :] = 255
    names = ("ground", "cat")
    found = patches.instances(annotation(mask, []), names)
    assert [(one.name, one.area) for one in found] == [("ground", 16), ("cat", 18), ("cat", 16)]
    # a polygon that labels repeat stays a polygon; one that they go on from becomes a part of the patch
    found = patches.instances(annotation(mask, [square(10, 10)]), names)
    assert [(one.name, one.area, bool(one.polygons)) for one in found][-1] == ("cat", 16, True)
    found = patches.instances(annotation(mask, [square(0, 0, 2)]), names)
    assert [(one.name, one.area, bool(one.polygons)) for one in found] == [
        *(("ground", 16, False), ("cat", 18, False), ("cat", 16, False))
    ]
    empty = np.full((20, 30), 254, np.uint8)
    parts = [square(1, 1, group=4), square(20, 9, group=4), square(9, 9)]
    found = patches.instances(annotation(empty, parts), names)
    assert [(one.area, len(one.polygons)) for one in found] == [(32, 2), (16, 1)]
    assert patches.frame(found[0], (20, 30)).sum() == 32
    assert not patches.instances(annotation(empty, []), names)
