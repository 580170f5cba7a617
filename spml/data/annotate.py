"""Makes weak annotations from full masks: scribbles, points, boxes and tags, the same for the same seed and name.

A mask is uint8 (H, W): classes 0..num_classes-1, 255 void; an instance mask is uint8 (H, W) of ids, 0 no instance, 255
void. `background` is the class that is no object, by default 0; with None every class is an object.

A result is a label uint8 (H, W) with `UNLABELLED` (254) at every pixel without annotation. Void becomes 254, too: an
annotator who draws scribbles does not know about void.
"""

import math
import zlib
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from spml.data.samples import IGNORE, UNLABELLED
from spml.data.strokes import draw_strokes, inner_distance

MIN_AREA = 20  # pixels: a smaller piece gets no scribble
MEGAPIXEL = 1_000_000  # pixels
MIN_GROUND = 0.005  # of the image: background seen through the spokes of a wheel gets none either

Seed = int | list[int]
Array = NDArray
Window = tuple[slice, slice]  # rows and columns
WHOLE: Window = (slice(None), slice(None))


class Box(NamedTuple):
    """A box of class `label` over columns x0..x1-1 and rows y0..y1-1."""

    label: int
    x0: int
    y0: int
    x1: int
    y1: int


@dataclass(frozen=True, eq=False)
class Region:
    """One object or piece of background: its class, and its pixels inside a tight window.

    All work on a region happens in its window: on a photograph of 12 megapixels with dozens of regions, whole frames
    would take minutes and gigabytes.
    """

    label: int
    part: Array  # (h, w) bool, the pixels of the window
    window: Window
    shape: tuple[int, int]  # (H, W) of the mask

    @property
    def area(self) -> int:
        return int(np.count_nonzero(self.part))

    @property
    def inside(self) -> Array:
        """(H, W) bool, the pixels in the whole frame."""
        inside = np.zeros(self.shape, bool)
        inside[self.window] = self.part
        return inside


def sample_seed(name: str, seed: int) -> list[int]:
    """The seed of one sample, from its name and the run's seed; it does not depend on the other samples."""
    return [seed, zlib.crc32(name.encode())]


def regions(
    mask: Array, instance: Array | None = None, *, num_classes: int = UNLABELLED, background: int | None = 0
) -> list[Region]:
    """The objects of a mask and its connected pieces of background.

    With an instance mask, an object is an instance and has the class of most of its pixels. Class pixels outside every
    instance form connected components (8 neighbours); without an instance mask, all of them do. Values of `mask` of
    `num_classes` and above belong to no region. Raises: ValueError where the two masks differ in shape.
    """
    if instance is not None and instance.shape != mask.shape:
        raise ValueError(f"mask and instance mask must have one shape, got {mask.shape} and {instance.shape}")
    known, ground = mask < num_classes, _is_ground(mask, background)
    left = known.copy()
    found: list[Region] = []
    if instance is not None:
        thing = np.where(known & ~ground & (instance != IGNORE), instance, 0)
        for index, window in _windows(thing):
            inside = thing[window] == index
            label = int(np.bincount(mask[window][inside]).argmax())
            found.append(Region(label, inside & (mask[window] == label), window, mask.shape))
            left[window] &= ~inside
        left &= ground | (instance != IGNORE)
    for label, window in _windows(np.where(left, mask.astype(np.int16) + 1, 0)):
        for part, inner in _pieces(left[window] & (mask[window] == label - 1)):
            found.append(Region(label - 1, part, _within(window, inner), mask.shape))
    return found


def _windows(ids: Array) -> list[tuple[int, Window]]:
    """The values >= 1 in `ids` (H, W), ascending, each with its window."""
    return [(value, window) for value, window in enumerate(ndimage.find_objects(ids), start=1) if window is not None]


def _pieces(inside: Array) -> list[tuple[Array, Window]]:
    """The connected pieces (8 neighbours) of (h, w) bool, in the order of their first pixels, each in its window."""
    pieces, _ = ndimage.label(inside, np.ones((3, 3)))
    return [(pieces[window] == piece, window) for piece, window in _windows(pieces)]


def _within(outer: Window, inner: Window) -> Window:
    """A window of a window, in the frame of the outer one."""
    rows, columns = (slice(a.start + b.start, a.start + b.stop) for a, b in zip(outer, inner, strict=True))
    return rows, columns


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
        length_ratio: in [0, 1], the drawn part of each stroke's arc length, around its middle. A shorter scribble is
            part of a longer one; 0 leaves the middle point.
        dilation: >= 0, radius of the pen in pixels. Strokes are clipped to their own region.

    Returns: label uint8 (H, W). Pieces under 20 pixels, and of background under 0.5 % of the image, get no stroke.
    Raises: ValueError for options out of range and masks of two shapes.
    """
    _check_options(length_ratio, dilation)
    label = np.full(mask.shape, UNLABELLED, np.uint8)
    rng = np.random.default_rng(seed)
    found = regions(mask, instance, num_classes=num_classes, background=background)
    for region in _worth_drawing(found, mask.size, background):
        pieces = _pieces(region.part)
        areas = [int(np.count_nonzero(inside)) for inside, _ in pieces]
        for area, (inside, inner) in zip(areas, pieces, strict=True):
            if area >= min(MIN_AREA, max(areas)):
                piece = Region(region.label, inside, _within(region.window, inner), region.shape)
                line = draw_strokes(_depth(piece), rng, length_ratio, area / mask.size)
                label[piece.window][_dilate(line, dilation) & inside] = region.label
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
        # The rounding of the weights' sum, too, depends on the frame; see `_depth`.
        inside, window = (region.inside, WHOLE) if mask.size <= MEGAPIXEL else (region.part, region.window)
        weight = np.square(inner_distance(inside)).ravel()
        centre = np.zeros(inside.shape, bool)
        centre.ravel()[rng.choice(weight.size, p=weight / weight.sum())] = True
        pieces, _ = ndimage.label(inside, np.ones((3, 3)))
        label[window][_dilate(centre, dilation) & (pieces == pieces[centre])] = region.label
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
            rows, columns = _within(region.window, _windows(region.part.astype(np.uint8))[0][1])
            result.append(Box(region.label, columns.start, rows.start, columns.stop, rows.stop))
    return result


def box_label(found: list[Box], shape: tuple[int, int], *, core: float = 0.4, background: int | None = 0) -> Array:
    """The label that boxes alone allow: background outside every box, a confident core inside, the rest unlabelled.

    Without a background class nothing is known outside the boxes: it stays unlabelled.

    The core is the ellipse inscribed in the box, with its axes scaled by `core` in (0, 1]. Where boxes overlap, the
    smaller one counts as in front: a larger box of another class labels nothing inside it. As in the released box
    labels, void has no effect: pixels outside every box are background. Returns: label uint8 of `shape`.
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


def _depth(region: Region) -> Array:
    """Distance (h, w) float32 of each pixel of a region to its border, in the region's window.

    Its last digit depends on the frame of the computation, and can change the path of a stroke. Up to a megapixel it
    uses the whole frame, which keeps the annotations of images of usual sizes as they always were.
    """
    if math.prod(region.shape) > MEGAPIXEL:
        return inner_distance(region.part)
    return inner_distance(region.inside)[region.window]


def _check_options(length_ratio: float, dilation: int) -> None:
    if not 0 <= length_ratio <= 1:
        raise ValueError(f"length_ratio must lie in [0, 1], got {length_ratio}")
    if dilation < 0:
        raise ValueError(f"dilation must be >= 0 pixels, got {dilation}")


def _worth_drawing(
    found: list[Region], image_size: int, background: int | None, min_area: int = MIN_AREA
) -> list[Region]:
    """Regions of at least `min_area` pixels; of the background, only large pieces, or the largest if none is large."""
    areas = [region.area for region in found]
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
    radius = min(radius, max(line.shape))  # which already covers all
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1,) * 2)
    return cv2.dilate(line.astype(np.uint8), disc).astype(bool)
