"""Scribbles that people drew, as ScribbleSup stores them in XML, as label PNGs; points are scribbles of no length."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import cv2
import numpy as np

from spml.data.prepare.convert import IMAGE_SUFFIXES, convert_folder, find_files
from spml.data.samples import UNLABELLED, DataError, image_size
from spml.data.xml import read_xml
from spml.errors import UserError

Array = np.ndarray


class Stroke(NamedTuple):
    """A line of class `label` through `points` (N, 2), x and y in pixels from the upper left corner, N >= 1."""

    label: int
    points: Array


def class_index(name: str | None, classes: Sequence[str], where: str) -> int:
    """The place of a class name in `classes`, whatever its case, spaces and hyphens. Raises DataError for another."""
    plain = [plain_name(known) for known in classes]
    if plain_name(name or "") not in plain:
        raise DataError(f"{where}: expected one of the {len(classes)} class names, got {name!r}")
    return plain.index(plain_name(name or ""))


def plain_name(name: str) -> str:
    """A name without case, spaces and hyphens."""
    return "".join(letter for letter in name.lower() if letter.isalnum())


def read_number(parent: ElementTree.Element, tag: str, where: str) -> float:
    """The number in the child `tag`. Raises DataError where there is none."""
    text = parent.findtext(tag)
    try:
        value = float(text or "")
    except ValueError:
        value = float("nan")
    if not np.isfinite(value):
        raise DataError(f"{where}: expected a number in <{tag}>, got {text!r}")
    return value


def read_strokes(path: str | Path, classes: Sequence[str]) -> list[Stroke]:
    """The lines of a ScribbleSup file: each `<polygon>` has a `<tag>`, a class name, and `<point><X/><Y/></point>`s.

    Lines without a point are left out. Raises: DataError for other XML and unknown classes.
    """
    strokes = []
    for number, polygon in enumerate(read_xml(path).iter("polygon"), start=1):
        where = f"{path} polygon {number}"
        label = class_index(polygon.findtext("tag"), classes, where)
        points = [[read_number(point, axis, where) for axis in ("X", "Y")] for point in polygon.iter("point")]
        if points:
            strokes.append(Stroke(label, np.array(points)))
    if not strokes:
        raise DataError(f"{path}: expected <polygon> elements with a <tag> and <point>s, found none")
    return strokes


def shorten(points: Array, length_ratio: float) -> Array:
    """The part `length_ratio`, in [0, 1], of a polyline (N, 2) around its middle; 0: the middle alone, (1, 2)."""
    place = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    if length_ratio == 1 or place[-1] == 0:
        return points
    ends = place[-1] * np.array([0.5 - length_ratio / 2, 0.5 + length_ratio / 2])
    inner = place[(place > ends[0]) & (place < ends[1])]
    kept = np.unique(np.concatenate([ends, inner]))
    return np.stack([np.interp(kept, place, points[:, axis]) for axis in (0, 1)], axis=1)


def draw_label(
    strokes: Sequence[Stroke], size: tuple[int, int], *, dilation: int = 3, length_ratio: float = 1.0
) -> Array:
    """The label (H, W) uint8 of an image of `size` (H, W): every line, widened by a disc; elsewhere 254.

    Background lines go below the others, which follow in the order of the file. Points outside the image are cut off.
    """
    label = np.full(size, UNLABELLED, np.uint8)
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * dilation + 1,) * 2)
    for stroke in sorted(strokes, key=lambda stroke: stroke.label != 0):
        line = np.zeros(size, np.uint8)
        corners = np.rint(shorten(stroke.points, length_ratio)).clip(-(10**6), 10**6).astype(np.int32)
        corners = np.concatenate([corners, corners[-1:]])  # of one point alone nothing would be drawn
        cv2.polylines(line, [corners[:, None]], isClosed=False, color=1)
        label[cv2.dilate(line, disc) > 0] = stroke.label
    return label


def _label_of(path: Path, images: dict[str, Path], classes: Sequence[str], dilation: int, length_ratio: float) -> Array:
    return draw_label(
        read_strokes(path, classes), image_size(images[path.stem]), dilation=dilation, length_ratio=length_ratio
    )


def convert_drawings(
    source_dir: str | Path,
    image_dir: str | Path,
    save_dir: str | Path,
    classes: Sequence[str],
    *,
    dilation: int = 3,
    length_ratio: float = 1.0,
    num_workers: int | None = None,
    overwrite: bool = False,
) -> str:
    """Write `save_dir/<name>.png` (uint8 ids, 254 unlabelled) for every ScribbleSup `<name>.xml` of a folder.

    Args:
        image_dir: the images `<name>.jpg`, whose size the labels get.
        classes: names, background first.
        dilation: radius of the pen in pixels: 3 for scribbles and 6 for points, as released.
        length_ratio: part of each line that is kept, around its middle: 0 makes points, as released.

    Returns: one line saying what was done. Raises: UserError for options out of range, files that cannot be used, and a
    folder of other labels, unless `overwrite`.
    """
    if dilation < 0:
        raise UserError(f"--dilation: expected pixels >= 0, got {dilation}")
    if not 0 <= length_ratio <= 1:
        raise UserError(f"--length_ratio: expected a number in [0, 1], got {length_ratio}")
    sources = find_files(source_dir, (".xml",))
    names = [source.stem for source in sources]
    images = {path.stem: path for path in find_files(image_dir, IMAGE_SUFFIXES, names)}
    convert = partial(_label_of, images=images, classes=tuple(classes), dilation=dilation, length_ratio=length_ratio)
    things = {"classes": list(classes), "dilation": dilation, "length_ratio": float(length_ratio)}
    return convert_folder("drawings", things, sources, save_dir, convert, num_workers=num_workers, overwrite=overwrite)
