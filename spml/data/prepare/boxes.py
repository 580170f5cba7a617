"""Boxes of PASCAL VOC's XML files, as JSON and as labels."""

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from spml.data.annotate import Box, box_label
from spml.data.prepare.convert import convert_folder, find_files
from spml.data.prepare.drawings import class_index, read_number
from spml.data.samples import DataError
from spml.data.xml import read_xml
from spml.errors import UserError
from spml.files import write_atomically
from spml.progress import progress

BOX_KEYS = ("class", "x0", "y0", "x1", "y1")  # of boxes.json
CORNERS = ("xmin", "ymin", "xmax", "ymax")  # from 1, the last ones inside the box


def read_boxes(path: str | Path, classes: Sequence[str]) -> tuple[tuple[int, int], list[Box]]:
    """The size (H, W) and the boxes of a VOC annotation, cut to the image; difficult objects too, their parts not.

    Raises: DataError for other XML, unknown classes, and boxes without a pixel.
    """
    root = read_xml(path)
    size = root.find("size")
    if size is None:
        raise DataError(f"{path}: expected <size> with <width> and <height>, as VOC's annotations have")
    width, height = (int(read_number(size, side, str(path))) for side in ("width", "height"))
    boxes = []
    for number, found in enumerate(root.findall("object"), start=1):
        where = f"{path} object {number}"
        corners = found.find("bndbox")
        if corners is None:
            raise DataError(f"{where}: expected <bndbox>, found none")
        left, top, right, bottom = (round(read_number(corners, corner, where)) for corner in CORNERS)
        label = class_index(found.findtext("name"), classes, where)
        box = Box(label, max(0, left - 1), max(0, top - 1), min(width, right), min(height, bottom))
        if box.x0 >= box.x1 or box.y0 >= box.y1:
            raise DataError(
                f"{where}: expected a box inside {width} x {height} pixels, got {left}, {top} to {right}, {bottom}"
            )
        boxes.append(box)
    return (height, width), boxes


def boxes_of(
    source: str | Path, names: Sequence[str], classes: Sequence[str], background: int | None = 0
) -> dict[str, list[Box]]:
    """The boxes of samples, by name: of a `boxes.json`, or of a folder of VOC annotations `<name>.xml`.

    Args:
        source: the file that `spml annotate --kind box` or `spml prepare boxes` wrote, or the folder.
        classes: K names; boxes in a JSON file have numbers.
        background: the class that has no boxes; None: every class has.

    Raises: DataError for a source that cannot be read, names it does not have, and boxes that are none.
    """
    source = Path(source)
    if source.is_dir():
        return {path.stem: read_boxes(path, classes)[1] for path in find_files(source, (".xml",), names)}
    try:
        held = json.loads(source.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise DataError(f"cannot read the boxes in {source}: {reason}") from error
    if not isinstance(held, dict):
        raise DataError(f"{source}: expected name -> list of boxes, as `spml annotate` writes it, got {type(held)}")
    missing = [name for name in names if name not in held]
    if missing:
        raise DataError(f"{source}: no boxes for {len(missing)} of {len(names)} names, such as {missing[0]!r}")
    objects = [index for index in range(len(classes)) if index != background]
    return {name: [_box(entry, objects, f"{source}: {name}") for entry in held[name]] for name in names}


def _box(entry: object, objects: Sequence[int], where: str) -> Box:
    """A box of a JSON file. Raises DataError where it is none, or of a class that is not among `objects`."""
    values = [entry.get(key) for key in BOX_KEYS] if isinstance(entry, dict) else []
    whole = [value for value in values if isinstance(value, int) and not isinstance(value, bool)]
    if len(whole) != len(BOX_KEYS) or whole[0] not in objects:
        raise DataError(
            f"{where}: expected class {objects[0]} to {objects[-1]}, x0, y0, x1 and y1, whole numbers, "
            f"got {json.dumps(entry)}"
        )
    return Box(*whole)


def _label_of(path: Path, classes: Sequence[str], core: float) -> np.ndarray:
    size, boxes = read_boxes(path, classes)
    return box_label(boxes, size, core=core)


def convert_boxes(
    source_dir: str | Path,
    save_dir: str | Path,
    classes: Sequence[str],
    *,
    core: float = 0.4,
    num_workers: int | None = None,
    overwrite: bool = False,
) -> str:
    """Write for every VOC annotation `<name>.xml` of a folder what its boxes alone allow, without CAMs.

    `save_dir/box/<name>.png` (uint8, 254 unlabelled; `spml.data.annotate.box_label`) and `save_dir/boxes.json`, name
    -> list of class, x0, y0, x1, y1 (the last two lie outside).

    Args:
        classes: names, background first.
        core: part of a box, an ellipse, that is labelled with its class.

    Returns: one line saying what was done. Raises: UserError for files that cannot be used; without `overwrite`, for a
    folder of other labels or a boxes.json of other boxes.
    """
    if not 0 < core <= 1:
        raise UserError(f"--core: expected a number in (0, 1], got {core}")
    sources = find_files(source_dir, (".xml",))
    lines = []
    for path in progress(sources, "reading boxes", unit="file"):
        entries = [dict(zip(BOX_KEYS, box, strict=True)) for box in read_boxes(path, classes)[1]]
        lines.append(f"{json.dumps(path.stem)}: {json.dumps(entries)}")
    content = "{" + ",\n".join(lines) + "}\n"
    folder, path = Path(save_dir) / "box", Path(save_dir) / "boxes.json"
    if path.is_file() and path.read_bytes() != content.encode() and not overwrite:
        raise UserError(f"{path}: holds other boxes already: expected another --save_dir, or --overwrite")
    convert = partial(_label_of, classes=tuple(classes), core=core)
    things = {"classes": list(classes), "core": float(core)}
    told = convert_folder("box labels", things, sources, folder, convert, num_workers=num_workers, overwrite=overwrite)
    write_atomically(path, lambda file: file.write(content.encode()))
    return told
