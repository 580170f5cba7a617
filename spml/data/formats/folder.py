"""A folder of annotations as the studio and `spml run` have it: classes.txt, strokes, labels, weak labels, lists.

Of the image <name>.<suffix> `strokes/<name>.json` holds what was drawn, `labels/<name>.png` the labels, and
`weak/<name>.png` what the strokes say (254 unlabelled, 255 void). Lists, tags.txt and boxes.json are for `spml run`.
"""

import json
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from spml.classes import IGNORE, MAX_CLASSES, UNLABELLED, means_background
from spml.data.formats.base import Annotation, is_number, points_of, short
from spml.data.formats.images import OUTPUTS, SUFFIXES, walk
from spml.data.formats.safe import read_object
from spml.data.raster import KINDS, Shape, box_pixels
from spml.data.samples import DataError, image_size, read_label
from spml.errors import UserError

CLASSES = "classes.txt"
LISTS = ("tag", "box", "scribble", "point", "mask")
DRAWN = {"brush": "scribble", "line": "scribble", "point": "point", "box": "box", "polygon": "mask"}


def read_classes(folder: Path) -> tuple[str, ...]:
    """The names in classes.txt, () without any. Raises DataError for a file that cannot be read, or a name twice."""
    path = folder / CLASSES
    if not path.is_file():
        return ()
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {path}: {error}") from error
    names = tuple(line for line in lines if line)
    if len(set(names)) < len(names) or len(names) > MAX_CLASSES:
        raise DataError(f"{path}: expected at most {MAX_CLASSES} different class names, one a line, got {len(names)}")
    return names


def background_of(names: Sequence[str]) -> int | None:
    """The class that is no object: 0 where its name says so."""
    return 0 if names and means_background(names[0]) else None


def strokes_text(annotation: Annotation) -> str:
    """The content of strokes/<name>.json; classes are given by name. A stroke's id depends on its place alone."""
    strokes = []
    for place, shape in enumerate(annotation.shapes):
        name = shape.id or str(uuid.uuid5(uuid.NAMESPACE_URL, f"{annotation.name} {place} {shape.kind}"))
        stroke: dict[str, Any] = {"id": name, "kind": shape.kind, "class": shape.label, "width": shape.width}
        stroke |= {"points": [list(point) for point in shape.points], "filled": shape.kind == "polygon"}
        strokes.append(stroke if shape.group is None else {**stroke, "group": shape.group})
    content = {"image": annotation.name, "width": annotation.width, "height": annotation.height}
    return json.dumps({**content, "tags": list(annotation.tags), "strokes": strokes}) + "\n"


def read_strokes(path: Path, names: Sequence[str] | None) -> tuple[list[Shape], tuple[str, ...]]:
    """The shapes and tags of strokes/<name>.json. Raises DataError for a bad one: file and stroke.

    A class is given by its name, or by a key that the file's own list `classes` explains.

    Args:
        names: of the classes that there are; None: any.
    """
    content = read_object(path, "strokes")
    listed = content.get("classes")
    known = {name: name for name in names or ()}
    for one in listed if isinstance(listed, list) else []:
        if isinstance(one, dict) and isinstance(one.get("key"), str) and isinstance(one.get("name"), str):
            known[one["key"]] = one["name"]
    strokes, tags = content.get("strokes"), content.get("tags") or []
    if not isinstance(strokes, list) or not isinstance(tags, list):
        raise DataError(f"{path}: expected the lists `strokes` and `tags`")
    shapes = [_shape(stroke, known, names, f"{path} stroke {number}") for number, stroke in enumerate(strokes, start=1)]
    return shapes, tuple(_class(tag, known, names, f"{path} tags") for tag in tags)


def _class(word: Any, known: dict[str, str], names: Sequence[str] | None, where: str) -> str:
    name = known.get(word, None if names is not None else word) if isinstance(word, str) else None
    if name is None or (names is not None and name not in names):
        raise DataError(f"{where}: expected a class of {CLASSES}, got {short(name or word)}")
    return name


def _shape(stroke: Any, known: dict[str, str], names: Sequence[str] | None, where: str) -> Shape:
    kind = stroke.get("kind") if isinstance(stroke, dict) else None
    if not isinstance(kind, str) or kind not in KINDS:
        raise DataError(f"{where}: expected kind to be one of {', '.join(KINDS)}, got {short(kind)}")
    width = stroke.get("width", 1)
    if not is_number(width) or width <= 0:
        raise DataError(f"{where}: expected a width above 0, got {short(width)}")
    label = None if kind == "erase" else _class(stroke.get("class"), known, names, where)
    points = points_of(stroke.get("points"), where, KINDS[kind])
    if kind == "polygon" and stroke.get("filled") is False:  # its border alone was drawn
        kind, points = "brush", (*points, points[0])
    group = stroke.get("group")
    name = stroke.get("id")
    own = name if isinstance(name, str) else ""
    return Shape(kind, label, points, float(width), group if type(group) is int else None, own)


def says_the_same(there: Path, new: Path) -> bool:
    """Whether two files of strokes hold the same shapes and tags, or two label images the same pixels."""
    try:
        if new.suffix == ".png":
            return np.array_equal(read_label(there), read_label(new))
        first, second = (_drawn(path) for path in (there, new))
    except UserError:
        return False
    return new.suffix == ".json" and first == second


def _drawn(path: Path) -> tuple[list[Shape], tuple[str, ...]]:
    """Shapes without ids and groups, which the studio does not keep, and tags, of any classes."""
    shapes, tags = read_strokes(path, None)
    return [replace(shape, id="", group=None) for shape in shapes], tags


def read_folder(folder: Path, names: Sequence[str]) -> Iterator[Annotation]:
    """The annotations of a folder's images, in the order of their names; images without any are left out.

    Raises: DataError for files that cannot be read, labels of another size than their image or with ids that no class
        has, and for strokes and labels without an image.
    """
    found: dict[str, Path] = {}
    for path in walk(folder, OUTPUTS):
        stem = path.relative_to(folder).with_suffix("").as_posix()
        if (other := found.setdefault(stem, path)) != path:
            raise DataError(f"{path}: {other.name} has the same name but for the suffix: rename one of them")
    stems = set()
    for kind, suffix in (("strokes", "json"), ("labels", "png")):
        files = (folder / kind).glob(f"**/*.{suffix}")
        stems |= {file.relative_to(folder / kind).with_suffix("").as_posix() for file in files if file.name[0] != "."}
    for stem in sorted(stems):
        if stem not in found:
            raise DataError(f"{folder}: no image {stem}.* ({', '.join(SUFFIXES)}) for its strokes or labels")
        yield _read_one(folder, found[stem], stem, names)


def _read_one(folder: Path, image: Path, stem: str, names: Sequence[str]) -> Annotation:
    height, width = image_size(image)
    name = image.relative_to(folder).as_posix()
    strokes, labels = folder / "strokes" / f"{stem}.json", folder / "labels" / f"{stem}.png"
    shapes, tags = read_strokes(strokes, names) if strokes.is_file() else ([], ())
    mask = None
    if labels.is_file():
        mask = read_label(labels)
        if mask.shape != (height, width):
            raise DataError(f"{labels}: expected {width} x {height} pixels, as {name} has, got {mask.shape[::-1]}")
        odd = set(mask[mask >= len(names)].tolist()) - {UNLABELLED, IGNORE}
        if odd:
            raise DataError(f"{labels}: holds the ids {sorted(odd)[:5]}, but {CLASSES} has {len(names)} names")
    return Annotation(image, name, width, height, shapes, mask, tags, str(strokes))


def list_rows(annotation: Annotation, painted: bool) -> dict[str, str]:
    """The lists that an image belongs to, and its line in each.

    Points, lines, boxes and polygons teach by weak/<name>.png, where anything is `painted`, labels by
    labels/<name>.png. A tag list names the image alone.
    """
    weak, name = f"weak/{annotation.stem}.png", annotation.name
    rows = {DRAWN[shape.kind]: f"{name} {weak}" for shape in annotation.shapes if shape.kind in DRAWN and painted}
    if annotation.mask is not None:
        rows["mask"] = f"{name} labels/{annotation.stem}.png"
    if rows or annotation.tags:
        rows["tag"] = name
    return rows


def tags_of(annotation: Annotation, names: Sequence[str]) -> list[int]:
    """The classes that an image is known to show, ascending, without the background."""
    found = {names.index(name) for name in (*annotation.tags, *(s.label for s in annotation.shapes if s.label))}
    if annotation.mask is not None:
        found |= {value for value in set(annotation.mask.ravel().tolist()) if value < len(names)}
    return sorted(found - {background_of(names)})


def boxes_of(annotation: Annotation, names: Sequence[str]) -> list[dict[str, int]]:
    """The boxes of an image, as boxes.json has them; those of the background, and those without a pixel, left out."""
    found = []
    for shape in annotation.shapes:
        if shape.kind == "box" and names.index(str(shape.label)) != background_of(names):
            x0, y0, x1, y1 = box_pixels(shape, (annotation.height, annotation.width))
            if x0 < x1 and y0 < y1:
                found.append({"class": names.index(str(shape.label)), "x0": x0, "y0": y0, "x1": x1, "y1": y1})
    return found
