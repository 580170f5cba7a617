"""Weak annotations made from full masks: scribbles, points, boxes and tags, the same for the same seed and name.

A mask is uint8 (H, W): classes 0..num_classes-1, 255 void; an instance mask is uint8 (H, W) of ids, 0 no instance, 255
void. `background` is the class that is no object, 0 unless said otherwise; with None every class is one.

A label that comes back is uint8 (H, W) with `UNLABELLED` (254) wherever the annotator said nothing, void included: an
annotator who draws scribbles does not know about void.
"""

import zlib
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from spml.data.samples import IGNORE, UNLABELLED
from spml.data.strokes import draw_strokes, inner_distance

MIN_AREA = 20  # pixels: a smaller piece gets no scribble
MIN_GROUND = 0.005  # of the image: background seen through the spokes of a wheel gets none either

Seed = int | list[int]
Array = NDArray


class Box(NamedTuple):
    """A box of class `label` over columns x0..x1-1 and rows y0..y1-1."""

    label: int
    x0: int
    y0: int
    x1: int
    y1: int


class Region(NamedTuple):
    """What an annotator sees as one thing: its class, its pixels, and whether they came from the instance mask."""

    label: int
    inside: Array  # (H, W) bool


def sample_seed(name: str, seed: int) -> list[int]:
    """The seed of one sample, from its name and the run's seed: no other sample's presence or order changes it."""
    return [seed, zlib.crc32(name.encode())]


def regions(
    mask: Array, instance: Array | None = None, *, num_classes: int = UNLABELLED, background: int | None = 0
) -> list[Region]:
    """The objects of a mask and its connected pieces of background.

    With an instance mask an object is an instance, with the class that most of its pixels have; class pixels that no
    instance covers, and all of them without one, fall into connected components (8 neighbours). Values of `mask` from
    `num_classes` on belong to no region. Raises: ValueError where the two masks differ in shape.
    """
    if instance is not None and instance.shape != mask.shape:
        raise ValueError(f"mask and instance mask must have one shape, got {mask.shape} and {instance.shape}")
    known, ground = mask < num_classes, _is_ground(mask, background)
    left = known.copy()
    found: list[Region] = []
    if instance is not None:
        thing = known & ~ground & (instance > 0) & (instance != IGNORE)
        for index in np.unique(instance[thing]):
            inside = thing & (instance == index)
            label = int(np.bincount(mask[inside]).argmax())
            found.append(Region(label, inside & (mask == label)))
            left &= ~inside
        left &= ground | (instance != IGNORE)
    for label in np.unique(mask[left]):
        pieces, count = ndimage.label(left & (mask == label), np.ones((3, 3)))
        found += [Region(int(label), pieces == piece) for piece in range(1, count + 1)]
    return found


def scribbles(
    mask: Array,
    instance: Array | None = None,
    *,
    seed: Seed = 0,
    num_classes: int = UNLABELLED,
    background: int | None = 0,
    length_ratio: float = 1.0,
    dilation: int = 3,
) -> Array:
    """Smooth strokes along the inside of every object and of the background, several in a large region.

    Args:
        mask, instance, num_classes, background: as in `regions`.
        seed: of the random numbers, see `sample_seed`.
        length_ratio: in [0, 1], the part of each stroke's arc length that is drawn, around its middle. A shorter
            scribble is part of a longer one; 0 leaves the middle point.
        dilation: >= 0, radius of the pen in pixels. Strokes are clipped to their own region.

    Returns: label uint8 (H, W). Pieces under 20 pixels, and of background under 0.5 % of the image, get no stroke.
    Raises: ValueError for options out of range and masks of two shapes.
    """
    _check_options(length_ratio, dilation)
    label = np.full(mask.shape, UNLABELLED, np.uint8)
    rng = np.random.default_rng(seed)
    found = regions(mask, instance, num_classes=num_classes, background=background)
    for region in _worth_drawing(found, mask.size, background):
        pieces, count = ndimage.label(region.inside, np.ones((3, 3)))
        sizes = np.bincount(pieces.ravel(), minlength=count + 1)
        for piece in range(1, count + 1):
            if sizes[piece] >= min(MIN_AREA, sizes[1:].max()):
                inside = pieces == piece
                line = draw_strokes(inside, rng, length_ratio)
                label[_dilate(line, dilation) & inside] = region.label
    return label


def points(
    mask: Array,
    instance: Array | None = None,
    *,
    seed: Seed = 0,
    num_classes: int = UNLABELLED,
    background: int | None = 0,
    dilation: int = 6,
) -> Array:
    """One disc of radius `dilation` inside every object and every large connected piece of background, clipped to it.

    The centre is drawn with probability proportional to the squared distance to the region's border, so that it lies
    well inside, as a click does. Arguments and result as in `scribbles`; no instance is too small for its point.
    """
    _check_options(0, dilation)
    label = np.full(mask.shape, UNLABELLED, np.uint8)
    rng = np.random.default_rng(seed)
    found = regions(mask, instance, num_classes=num_classes, background=background)
    for region in _worth_drawing(found, mask.size, background, min_area=1 if instance is not None else MIN_AREA):
        weight = np.square(inner_distance(region.inside)).ravel()
        centre = np.zeros(mask.shape, bool)
        centre.ravel()[rng.choice(weight.size, p=weight / weight.sum())] = True
        pieces, _ = ndimage.label(region.inside, np.ones((3, 3)))
        label[_dilate(centre, dilation) & (pieces == pieces[centre])] = region.label
    return label


def boxes(
    mask: Array, instance: Array | None = None, *, num_classes: int = UNLABELLED, background: int | None = 0
) -> list[Box]:
    """The tight box of every object: `regions` less the background and, without instances, pieces under 20 pixels."""
    found = regions(mask, instance, num_classes=num_classes, background=background)
    kept = _worth_drawing(found, mask.size, background, min_area=1 if instance is not None else MIN_AREA)
    result = []
    for region in kept:
        if region.label != background:
            rows, columns = ndimage.find_objects(region.inside.astype(np.uint8))[0]
            result.append(Box(region.label, columns.start, rows.start, columns.stop, rows.stop))
    return result


def box_label(found: list[Box], shape: tuple[int, int], *, core: float = 0.4, background: int | None = 0) -> Array:
    """The label that boxes alone allow: background outside every box, a confident core inside, the rest unlabelled.

    Without a background class nothing is known outside the boxes: it stays unlabelled.

    The core is the ellipse inscribed in the box, its axes scaled by `core` in (0, 1]. Where boxes meet, the smaller one
    is taken to lie in front: a larger one of another class says nothing inside it. Void counts for nothing here, as in
    the released box labels: outside every box is background. Returns: label uint8 of `shape`.
    """
    label = np.full(shape, UNLABELLED if background is None else background, np.uint8)
    for box in found:
        label[box.y0 : box.y1, box.x0 : box.x1] = UNLABELLED
    for box in sorted(found, key=lambda box: (box.x0 - box.x1) * (box.y1 - box.y0)):
        window = label[box.y0 : box.y1, box.x0 : box.x1]
        height, width = window.shape
        y, x = np.ogrid[:height, :width]
        radius = np.hypot((2 * y + 1 - height) / max(1, core * height), (2 * x + 1 - width) / max(1, core * width))
        window[(window != box.label) & (window != UNLABELLED)] = UNLABELLED
        window[radius <= 1] = box.label
    return label


def tags(mask: Array, *, num_classes: int = UNLABELLED, background: int | None = 0) -> list[int]:
    """The classes of a mask without the background, ascending."""
    return [int(value) for value in np.unique(mask) if value < num_classes and value != background]


def _is_ground(mask: Array, background: int | None) -> Array:
    return np.zeros(mask.shape, bool) if background is None else mask == background


def _check_options(length_ratio: float, dilation: int) -> None:
    if not 0 <= length_ratio <= 1:
        raise ValueError(f"length_ratio must lie in [0, 1], got {length_ratio}")
    if dilation < 0:
        raise ValueError(f"dilation must be >= 0 pixels, got {dilation}")


def _worth_drawing(
    found: list[Region], image_size: int, background: int | None, min_area: int = MIN_AREA
) -> list[Region]:
    """Regions of at least `min_area` pixels; of the background the large ones, or the largest where none is."""
    areas = [int(region.inside.sum()) for region in found]
    ground = [area for area, region in zip(areas, found, strict=True) if region.label == background]
    least = max(1, min(MIN_GROUND * image_size, max(ground))) if ground else 0
    return [
        region
        for area, region in zip(areas, found, strict=True)
        if area >= (least if region.label == background else min_area)
    ]


def _dilate(line: Array, radius: int) -> Array:
    """The (H, W) bool `line` widened by a disc of `radius` pixels."""
    if radius == 0:
        return line
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1,) * 2)
    return cv2.dilate(line.astype(np.uint8), disc).astype(bool)
