"""labelme: a JSON file an image. Its masks and polygons are labels, its rectangles, lines and points weak shapes."""

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spml.data.formats import patches
from spml.data.formats.base import (
    PEN,
    VOID_NAMES,
    Annotation,
    Drawing,
    Export,
    Format,
    Shape,
    Source,
    agreed_size,
    ellipse,
    extent,
    is_number,
    name_of,
    points_of,
    short,
)
from spml.data.formats.images import OUTPUTS, SUFFIXES, Images, missing_image
from spml.data.formats.safe import json_kind, mask_text, read_object, text_bytes, text_mask
from spml.data.samples import DataError
from spml.files import read_json, write_json

# Points of each type of shape; None: any number from the first on.
POINTS = {"point": (1, 1), "line": (2, 2), "rectangle": (2, 2), "circle": (2, 2), "oriented_rectangle": (4, 4)} | {
    "polygon": (3, None),
    "linestrip": (1, None),
    "points": (1, None),
    "mask": (2, 2),
}
VERSION = "5.5.0"
GROUND = "_background_"  # labelme's own name of the background


def recognise(source: Path) -> bool:
    """A labelme file, or a folder of them."""
    return any(json_kind(path) == "labelme" for path in _files(source)[:3])


def _files(source: Path) -> list[Path]:
    """The JSON files of a source: itself, or those below it that are neither hidden nor made by us."""
    if source.is_file():
        return [source] if source.suffix.lower() == ".json" else []
    found = [(path, path.relative_to(source).parts) for path in sorted(source.glob("**/*.json"))]
    return [path for path, parts in found if parts[0] not in OUTPUTS and not any(part[0] == "." for part in parts)]


@dataclass(frozen=True)
class _File:
    """A labelme file: its content, checked and without its image, and whether it brings that."""

    path: Path
    content: dict[str, Any]
    brought: bool


def read(source: Path, images: Images, given: tuple[str, ...] = ()) -> Source:
    """The annotations of a file, or of all below a folder. Raises UserError for bad ones: file and shape."""
    held = [file for path in _files(source) if (file := _read_file(path)) is not None]
    if not held:
        raise DataError(f"{source}: expected labelme's JSON files with `shapes`, found none")
    found = [(file, _find(file, images)) for file in held]
    missing = [file for file, image in found if image is None and not file.brought]
    if missing:
        count = f"{len(missing)} of {len(held)}"
        raise missing_image(missing[0].content["imagePath"], str(missing[0].path), images, count)
    names = list(given)
    for label in (shape["label"] for file in held for shape in file.content["shapes"]):
        if label not in (*names, *VOID_NAMES):
            names.append(label)
    notes = _tags(held, names, given)
    root = source if source.is_dir() else source.parent
    return Source(tuple(names), (_annotation(file, image, root, names) for file, image in found), notes=notes)


def _read_file(path: Path) -> _File | None:
    """A file's content, checked; None for JSON of another kind."""
    content = read_json(path, "labelme's annotations")
    if not isinstance(content, dict) or "shapes" not in content:
        return None
    if not isinstance(content["shapes"], list) or not isinstance(content.get("imagePath"), str):
        raise DataError(f"{path}: expected labelme's list `shapes` and text `imagePath`")
    if not all(is_number(content.get(key) or 0) for key in ("imageWidth", "imageHeight")):
        raise DataError(f"{path}: expected imageWidth and imageHeight to be whole numbers")
    for number, shape in enumerate(content["shapes"], start=1):
        _check_shape(shape, f"{path} shape {number}")
    brought = content.pop("imageData", None) is not None
    return _File(path, content, brought)


def _check_shape(shape: Any, where: str) -> None:
    if not isinstance(shape, dict):
        raise DataError(f"{where}: expected an object, got {short(shape)}")
    kind = shape.setdefault("shape_type", "polygon")
    if not isinstance(kind, str) or kind not in POINTS:
        raise DataError(f"{where}: expected shape_type to be one of {', '.join(POINTS)}, got {short(kind)}")
    name = name_of(shape.get("label"), where)
    shape["label"] = "background" if name == GROUND else name
    least, most = POINTS[kind]
    shape["points"] = points_of(shape.get("points"), where, least)
    if most is not None and len(shape["points"]) > most:
        raise DataError(f"{where}: expected {most} points of a {kind}, got {len(shape['points'])}")


def _find(file: _File, images: Images) -> Path | None:
    """The photograph: seen from the JSON file, then as every reader looks for it."""
    name = file.content["imagePath"].replace("\\", "/")
    beside = Path(os.path.normpath(file.path.parent / name))
    inside = any(beside.is_relative_to(root) for root in (images.folder, *images.near))
    if inside and beside.suffix.lower() in SUFFIXES and beside.is_file():
        return beside
    return images.find(name, str(file.path))


def _tags(held: Sequence[_File], names: list[str], given: tuple[str, ...]) -> list[str]:
    """Turn each file's flags into tags, those that name a class; without any shape and class, all of them are tags."""
    free = not names and not given
    left: dict[str, int] = {}
    for file in held:
        flags = file.content.get("flags")
        raised = [" ".join(flag.split()) for flag, up in flags.items() if up is True] if isinstance(flags, dict) else []
        for flag in raised:
            if free and flag and flag not in names:
                names.append(flag)
            if flag not in names:
                left[flag] = left.get(flag, 0) + 1
        file.content["tags"] = tuple(flag for flag in raised if flag in names)
    return [f"flags that name no class are left out: {short(flag)} of {count} files" for flag, count in left.items()]


def _annotation(file: _File, image: Path | None, root: Path, names: list[str]) -> Annotation:
    """One file's annotation, with the image that it brings where there is no other."""
    path, content, data = file.path, file.content, None
    if image is None:
        data = text_bytes(read_object(path, "labelme's annotations")["imageData"], f"{path} imageData")
    said = (content.get("imageHeight") or 0, content.get("imageWidth") or 0)
    height, width = agreed_size(image, said, str(path), data)
    drawing = Drawing(names, (height, width))
    for number, shape in enumerate(content["shapes"], start=1):
        if shape["shape_type"] == "mask":
            _add_mask(drawing, shape, f"{path} shape {number}")
        else:
            for one in _shapes(shape):
                drawing.add(one)
    name = (path.parent.relative_to(root) / content["imagePath"].replace("\\", "/").rpartition("/")[2]).as_posix()
    return Annotation(image, name, width, height, drawing.shapes, drawing.mask, content["tags"], str(path), data)


def _add_mask(drawing: Drawing, shape: dict[str, Any], where: str) -> None:
    """A mask lies in the box of its two points, the second inside it."""
    (x0, y0), (x1, y1) = ((int(x), int(y)) for x, y in extent(shape["points"]))
    inside = text_mask(shape.get("mask"), f"{where} mask")
    if inside.shape != (y1 - y0 + 1, x1 - x0 + 1):
        raise DataError(
            f"{where}: expected a mask of {x1 - x0 + 1} x {y1 - y0 + 1} pixels, as its points say, "
            f"got {inside.shape[1]} x {inside.shape[0]}"
        )
    drawing.add_mask(shape["label"], inside, x0, y0)


def _shapes(shape: dict[str, Any]) -> Iterator[Shape]:
    """A shape in our form; of a turned rectangle the upright box around it, which is as weak."""
    kind, label, points = shape["shape_type"], shape["label"], shape["points"]
    width: Any = shape.get("width")
    pen = float(width) if is_number(width) and 0 < width <= 1000 else PEN
    group = shape.get("group_id") if type(shape.get("group_id")) is int else None
    if kind in ("point", "points"):
        yield from (Shape("point", label, (point,), pen, group) for point in points)
    elif kind in ("line", "linestrip"):
        yield Shape("line" if kind == "line" else "brush", label, points, pen, group)
    elif kind in ("rectangle", "oriented_rectangle"):
        yield Shape("box", label, extent(points), 1.0, group)
    elif kind == "circle":
        radius = math.dist(points[0], points[1])
        yield Shape("polygon", label, ellipse(points[0][0], points[0][1], radius, radius), 1.0, group)
    else:
        yield Shape("polygon", label, points, 1.0, group)


def write(export: Export) -> None:
    """A JSON file an image, to lie beside it; masks for what labels say beyond polygons; tags become flags."""
    for annotation in export.annotations:
        path = export.place(f"{annotation.stem}.json")
        export.take(annotation, annotation.name)
        image = annotation.name.rpartition("/")[2]
        below, shapes = patches.layers(annotation, export.names)
        void = patches.void(annotation, VOID_NAMES[0])
        drawn = [_mask(one) for one in (*void, *below)] + [_written(shape) for shape in shapes]
        flags = {name: name in annotation.tags for name in export.names} if annotation.tags else {}
        size = {"imageHeight": annotation.height, "imageWidth": annotation.width}
        content = {"version": VERSION, "flags": flags, "shapes": drawn, "imagePath": image, "imageData": None, **size}
        write_json(path, content)


def _written(shape: Shape) -> dict[str, Any]:
    if shape.kind in ("brush", "line"):
        kind = "point" if len(shape.points) == 1 else "line" if shape.kind == "line" else "linestrip"
    else:
        kind = {"point": "point", "box": "rectangle", "polygon": "polygon"}[shape.kind]
    pen = {} if shape.kind in ("box", "polygon") else {"width": shape.width}  # labelme keeps what it does not know
    return {**_entry(kind, str(shape.label), [list(point) for point in shape.points], shape.group), **pen}


def _mask(one: patches.Instance) -> dict[str, Any]:
    rows, columns = one.window
    corners = [[columns.start, rows.start], [columns.stop - 1, rows.stop - 1]]
    return {**_entry("mask", one.name, corners, None), "mask": mask_text(one.inside)}


def _entry(kind: str, label: str, points: list[Any], group: int | None) -> dict[str, Any]:
    rest: dict[str, Any] = {"group_id": group, "description": "", "shape_type": kind, "flags": {}, "mask": None}
    return {"label": label, "points": points, **rest}


FORMAT = Format("labelme's JSON files, one an image", recognise, read, write)
