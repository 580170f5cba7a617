"""The form that all formats of annotations pass through, and what their readers share."""

import math
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spml.classes import IGNORE, UNLABELLED
from spml.data.formats.images import Images
from spml.data.formats.safe import content_size
from spml.data.raster import Point, Shape, covered
from spml.data.samples import DataError, image_size

Array = NDArray
VOID_NAMES = ("__ignore__",)  # labelme's name for pixels that count for nothing
PEN = 10.0  # pixels: labelme draws lines and points so wide; formats without widths get the same


@dataclass
class Annotation:
    """What is known of one image.

    Attributes:
        image: its file; None where only `content` holds it.
        name: the image's place in its folder, with "/".
        width, height: of the upright image, in pixels.
        shapes: in the order in which they are painted.
        mask: (H, W) uint8: places in the class names of the source, 254 unlabelled, 255 void; None without any.
        tags: names of classes that the image shows.
        where: the file, and the place in it, for messages.
        content: the image's file itself, if the source brings it.
    """

    image: Path | None
    name: str
    width: int = 0
    height: int = 0
    shapes: list[Shape] = field(default_factory=list)
    mask: Array | None = None
    tags: tuple[str, ...] = ()
    where: str = ""
    content: bytes | None = None

    @property
    def stem(self) -> str:
        """The name without its suffix."""
        return self.name.rpartition(".")[0] or self.name


@dataclass
class Source:
    """What a reader found: class names in the source's order, and annotations, read one at a time.

    Attributes:
        whole: every pixel of a mask has its class, as in VOC's label images: there is no need for a background class.
        notes: what a reader left out, a line each.
    """

    names: tuple[str, ...]
    annotations: Iterable[Annotation]
    whole: bool = False
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Format:
    """A format of annotations, an entry of `spml.data.formats.TABLE`.

    Attributes:
        recognise: (source) -> whether a file or folder is of this format.
        read: (source, images, class names that are given or ()) -> Source.
        write: (Export) -> None.
    """

    help: str
    recognise: Callable[[Path], bool]
    read: Callable[[Path, Images, tuple[str, ...]], Source]
    write: Callable[["Export"], None]


@dataclass
class Export:
    """What a writer gets.

    Attributes:
        names: of the classes; masks hold their places.
        annotations: with image, name, width and height; read one at a time. Erasers have been applied.
        place: (name) -> the file to write, whose folder exists.
        images: whether the photographs shall lie beside the annotations; `take` then copies one.
        lost: what the format cannot hold, by kind: how many.
    """

    names: tuple[str, ...]
    annotations: Iterator[Annotation]
    place: Callable[[str], Path]
    images: bool
    lost: dict[str, int] = field(default_factory=dict)

    def lose(self, kind: str, count: int = 1) -> None:
        """Count what the format cannot hold."""
        if count:
            self.lost[kind] = self.lost.get(kind, 0) + count

    def take(self, annotation: Annotation, name: str) -> None:
        """Copy the photograph to `name`, if photographs are asked for."""
        if self.images and annotation.image is not None:
            shutil.copyfile(annotation.image, self.place(name))


class Drawing:
    """Shapes and masks of one image in their order, and what is left of each under later masks.

    A mask covers what was painted before it, as a later shape does. A polygon that a later mask cuts becomes part of
    the mask, since labels lie below shapes.
    """

    def __init__(self, names: Sequence[str], size: tuple[int, int]) -> None:
        self.names, self.size = list(names), size
        self.shapes: list[Shape] = []
        self.mask: Array | None = None

    def add(self, shape: Shape) -> None:
        """A shape on top. Void polygons become void pixels; void of another kind says nothing."""
        if shape.label not in VOID_NAMES:
            self.shapes.append(shape)
        elif shape.kind == "polygon":
            window, inside = covered(shape, self.size, rim=False)
            self.add_mask(str(shape.label), inside, window[1].start, window[0].start)

    def add_mask(self, name: str, inside: Array, left: int = 0, top: int = 0) -> None:
        """A mask (h, w) bool on top, whose upper left pixel is (left, top); what lies outside the image is cut off."""
        rows = slice(max(top, 0), max(0, min(top + inside.shape[0], self.size[0])))
        columns = slice(max(left, 0), max(0, min(left + inside.shape[1], self.size[1])))
        part = inside[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
        if self.mask is None:
            self.mask = np.full(self.size, UNLABELLED, np.uint8)
        if part.size:
            self._bake(rows, columns, part)
            self.mask[rows, columns][part] = self._id(name)

    def _id(self, name: str) -> int:
        return IGNORE if name in VOID_NAMES else self.names.index(name)

    def _bake(self, rows: slice, columns: slice, part: Array) -> None:
        """Paint into the mask the polygons that a new mask cuts, and those below them."""
        cover = np.zeros(self.size, bool)
        cover[rows, columns] = part
        pixels = [(covered(shape, self.size, rim=False) if shape.kind == "polygon" else None) for shape in self.shapes]
        cut = [place for place, found in enumerate(pixels) if found and (cover[found[0]] & found[1]).any()]
        if not cut:
            return
        assert self.mask is not None
        kept = []
        for place, (shape, found) in enumerate(zip(self.shapes, pixels, strict=True)):
            if found and place <= cut[-1]:
                self.mask[found[0]][found[1]] = self._id(str(shape.label))
            else:
                kept.append(shape)
        self.shapes = kept


def agreed_size(
    image: Path | None, said: tuple[float, float], where: str, content: bytes | None = None
) -> tuple[int, int]:
    """(H, W) of the upright image, a file or its content. Raises DataError where a source says another; 0: nothing."""
    if image is not None:
        real = image_size(image)
    else:
        real = content_size(content or b"", where)
    if all(said) and (said[0], said[1]) != real:
        turned_by = ", turned as its EXIF orientation says" if (said[1], said[0]) == real else ""
        raise DataError(
            f"{where}: is about an image of {said[1]:g} x {said[0]:g} pixels, but "
            f"{image or 'the image in it'} has {real[1]} x {real[0]}{turned_by}"
        )
    return real


def points_of(values: Any, where: str, least: int = 1) -> tuple[Point, ...]:
    """Points [[x, y], ..]. Raises DataError for fewer than `least`, and for what is no finite number."""
    if not isinstance(values, list | tuple) or len(values) < least:
        got = f"{len(values)}" if isinstance(values, list | tuple) else type(values).__name__
        raise DataError(f"{where}: expected at least {least} points [x, y], got {got}")
    for value in values:
        pair = isinstance(value, list | tuple) and len(value) == 2
        if not pair or not all(is_number(number) for number in value):
            raise DataError(f"{where}: expected points [x, y] of finite numbers, got {short(value)}")
    return tuple((float(x), float(y)) for x, y in values)


def is_number(value: Any) -> bool:
    """Whether a value of JSON is a finite number of a size that pixels have."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e9


def pairs(values: Sequence[float], where: str) -> list[tuple[float, float]]:
    """[x, y, x, y, ..] as points. Raises DataError for an odd number of values."""
    if len(values) % 2:
        raise DataError(f"{where}: expected x and y in turn, got {len(values)} numbers")
    return list(zip(values[::2], values[1::2], strict=True))


def name_of(value: Any, where: str) -> str:
    """The name of a class on one line. Raises DataError for what is no text or empty."""
    name = " ".join(value.split()) if isinstance(value, str) else ""
    if not name or not name.isprintable() or len(name) > 100:
        raise DataError(f"{where}: expected the name of a class, 1 to 100 printable characters, got {short(value)}")
    return name


def short(value: Any) -> str:
    """A value in a message, cut, on one line."""
    text = ascii(value)
    return text if len(text) <= 60 else text[:57] + "..."


def ellipse(x: float, y: float, radius_x: float, radius_y: float, turn: float = 0.0) -> tuple[Point, ...]:
    """An ellipse as a polygon whose corners lie about a pixel apart, turned by `turn` degrees."""
    count = int(min(max(12, math.ceil(2 * math.pi * max(radius_x, radius_y))), 720))
    angle = 2 * np.pi * np.arange(count) / count
    return turned(list(zip(x + radius_x * np.cos(angle), y + radius_y * np.sin(angle), strict=True)), (x, y), turn)


def turned(points: Sequence[Point], centre: Point, degrees: float) -> tuple[Point, ...]:
    """Points turned around a centre, clockwise as seen on the image."""
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    moved = np.array(points, float) - centre
    result = np.stack([moved @ (cosine, -sine), moved @ (sine, cosine)], axis=1) + centre
    return tuple((float(a), float(b)) for a, b in result)


def extent(points: Sequence[Point]) -> tuple[Point, Point]:
    """The corners of the upright box around points."""
    low, high = np.min(points, 0), np.max(points, 0)
    return (float(low[0]), float(low[1])), (float(high[0]), float(high[1]))
