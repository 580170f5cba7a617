"""The objects of an annotation, for formats that want objects: polygons, and connected patches of what labels say."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from spml.classes import IGNORE, means_background
from spml.data.formats.base import Annotation, Export
from spml.data.raster import Point, Shape, Window, covered

Array = NDArray


@dataclass(frozen=True, eq=False)
class Instance:
    """An object: its class, and its pixels (h, w) bool in a window; its polygons, if those are all of it."""

    name: str
    window: Window
    inside: Array
    polygons: tuple[Shape, ...] = ()

    @property
    def area(self) -> int:
        return int(np.count_nonzero(self.inside))


def instances(annotation: Annotation, names: Sequence[str]) -> list[Instance]:
    """The objects of an annotation, without void and unlabelled pixels.

    Polygons of one group are one object. Pixels that labels give to a class beyond its polygons form connected patches
    (8 neighbours), an object each; a patch that touches polygons of its class is one object with them.
    """
    size = (annotation.height, annotation.width)
    groups: dict[object, list[Shape]] = {}
    for place, shape in enumerate(annotation.shapes):
        if shape.kind == "polygon":
            key = ("alone", place) if shape.group is None else ("group", shape.group, shape.label)
            groups.setdefault(key, []).append(shape)
    drawn = [_of_polygons(shapes, size) for shapes in groups.values()]
    found: list[Instance] = []
    joined: set[int] = set()
    mask = annotation.mask
    for label in [] if mask is None else np.unique(mask[mask < len(names)]).tolist():
        name = names[label]
        own = [place for place, one in enumerate(drawn) if one.name == name]
        patches, merged = _patches(name, mask == label, [drawn[place] for place in own])
        found += patches
        joined |= {own[place] for place in merged}
    kept = [one for place, one in enumerate(drawn) if place not in joined and one.area]
    return [*found, *kept]


def layers(annotation: Annotation, names: Sequence[str]) -> tuple[list[Instance], list[Shape]]:
    """Patches of labels, which lie below, and the shapes in their order, less polygons that patches took in."""
    found = instances(annotation, names)
    kept = {id(shape) for one in found for shape in one.polygons}
    shapes = [shape for shape in annotation.shapes if shape.kind != "polygon" or id(shape) in kept]
    return [one for one in found if not one.polygons], shapes


def void(annotation: Annotation, name: str) -> list[Instance]:
    """The void pixels of labels as one object of this name; [] without any."""
    inside = np.zeros((1, 1), bool) if annotation.mask is None else annotation.mask == IGNORE
    if not inside.any():
        return []
    window = ndimage.find_objects(inside.astype(np.uint8))[0]
    return [Instance(name, window, inside[window])]


def objects(annotation: Annotation, export: Export) -> list[Instance]:
    """The objects of an annotation without patches of background, for formats of objects; they count as lost."""
    found = instances(annotation, export.names)
    kept = [one for one in found if one.polygons or not means_background(one.name)]
    export.lose("background", len(found) - len(kept))
    return kept


def _of_polygons(shapes: Sequence[Shape], size: tuple[int, int]) -> Instance:
    pieces = [covered(shape, size, rim=False) for shape in shapes]
    rows, columns = (
        slice(min(window[side].start for window, _ in pieces), max(window[side].stop for window, _ in pieces))
        for side in (0, 1)
    )
    inside = np.zeros((rows.stop - rows.start, columns.stop - columns.start), bool)
    for (part_rows, part_columns), part in pieces:
        top, left = part_rows.start - rows.start, part_columns.start - columns.start
        inside[top : top + part.shape[0], left : left + part.shape[1]] |= part
    return Instance(str(shapes[0].label), (rows, columns), inside, tuple(shapes))


def _patches(name: str, labelled: Array, drawn: Sequence[Instance]) -> tuple[list[Instance], set[int]]:
    """The patches of a class beyond its polygons, and the places of polygons that became parts of them."""
    if not labelled.any():
        return [], set()
    explained = np.zeros(labelled.shape, bool)
    for one in drawn:
        explained[one.window] |= one.inside
    rest = labelled & ~explained
    if not rest.any():
        return [], set()
    pieces, count = ndimage.label(rest, np.ones((3, 3)))
    merged = set()
    if drawn:  # the pieces of all, then those without any pixel of `rest` are polygons that stay
        whole, _ = ndimage.label(rest | explained, np.ones((3, 3)))
        with_rest = np.unique(whole[rest])
        for place, one in enumerate(drawn):
            if np.isin(whole[one.window][one.inside], with_rest).any():
                merged.add(place)
        pieces = np.where(np.isin(whole, with_rest), whole, 0)
    found = []
    for value, window in enumerate(ndimage.find_objects(pieces), start=1):
        if window is not None:
            found.append(Instance(name, window, pieces[window] == value))
    return found, merged


def outline(inside: Array) -> list[tuple[Point, ...]]:
    """The borders of a mask (h, w) bool along the edges of its pixels: closed polygons, outer ones and holes.

    All of them in one even-odd filling give the mask again, pixel by pixel. Corners are whole numbers.
    """
    padded = np.pad(inside.astype(np.int8), 1)
    below = padded[1:, 1:-1] - padded[:-1, 1:-1]  # (h + 1, w): 1 where the inside begins below an edge
    right = padded[1:-1, 1:] - padded[1:-1, :-1]  # (h, w + 1)
    step: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for y, x in np.argwhere(below):  # the inside lies to the right of each edge's direction
        start, end = ((x, y), (x + 1, y)) if below[y, x] > 0 else ((x + 1, y), (x, y))
        step.setdefault((int(start[0]), int(start[1])), []).append((int(end[0]), int(end[1])))
    for y, x in np.argwhere(right):
        start, end = ((x, y + 1), (x, y)) if right[y, x] > 0 else ((x, y), (x, y + 1))
        step.setdefault((int(start[0]), int(start[1])), []).append((int(end[0]), int(end[1])))
    loops = []
    while step:
        start = next(iter(step))
        loop = [start]
        while True:
            ends = step[loop[-1]]
            loop.append(ends.pop())
            if not ends:
                del step[loop[-2]]
            if loop[-1] == start:
                break
        loops.append(_corners(loop[:-1]))
    return loops


def _corners(loop: Sequence[tuple[int, int]]) -> tuple[Point, ...]:
    """The points of a closed path at which it turns."""
    path = np.array(loop)
    into, out = path - np.roll(path, 1, 0), np.roll(path, -1, 0) - path
    turns = (into != out).any(1)
    return tuple((float(x), float(y)) for x, y in path[turns])


def one_polygon(loops: Sequence[Sequence[Point]]) -> list[Point]:
    """Closed polygons as one, for formats that know no holes: thin bridges lead to each and back again.

    A bridge has no pixel's centre in it, and is passed twice: by either rule of filling it adds nothing.
    """
    path = list(loops[0])
    for loop in loops[1:]:
        distance, nearest = cKDTree(path).query(loop)
        far = int(distance.argmin())
        near = int(nearest[far])
        turn = [*loop[far:], *loop[: far + 1]]
        path = [*path[: near + 1], *turn, *path[near:]]
    return path


def frame(one: Instance, size: tuple[int, int]) -> Array:
    """(H, W) bool of an object in the whole image."""
    whole = np.zeros(size, bool)
    whole[one.window] = one.inside
    return whole
