"""Samples: an image with its label, its regions and its tags, as files or as arrays, and how they are read.

Every mistake in a file is one line that names the sample and the file.
"""

import struct
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from spml import members
from spml.classes import IGNORE, UNLABELLED
from spml.errors import UserError

__all__ = [  # labels' two values of no class are imported from here as well
    "IGNORE",
    "UNLABELLED",
    "DataError",
    "Sample",
    "check_header",
    "image_size",
    "named",
    "read_image",
    "read_label",
    "read_sample_files",
]

Source = Path | np.ndarray

# What Pillow raises on damaged files, beside OSError.
_DAMAGED = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, Image.DecompressionBombError)
ORIENTATION, TURNED = 0x0112, (5, 6, 7, 8)  # the EXIF tag, and its values that swap width and height
_PNG_EXIF = ("exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp")  # asked for others, Pillow decodes the file
_FEW_VALUES = 48  # a grey picture with fewer is a label rather than a photograph


class DataError(UserError):
    """A data list, an image or a label that cannot be used."""


@dataclass(frozen=True, eq=False, init=False)
class Sample:
    """One image and what is known of it; every part is a path or an array.

    A sample of a data list also knows its place there: `line` counts from 1.
    """

    image: Source  # (H, W, 3) uint8 RGB as an array
    label: Source | None  # (H, W) integers: class ids, 254 unlabelled, 255 void
    regions: Source | None  # (H, W) integers: an over-segmentation
    tags: tuple[int | str, ...] | None  # classes that the image shows, by index or by name
    name: str  # of what is written for it; "" where nobody gave one, see `named`
    line: int
    list_path: Path | None

    def __init__(
        self,
        image: str | Source,
        label: str | Source | None = None,
        regions: str | Source | None = None,
        tags: Sequence[int | str] | None = None,
        name: str | None = None,
        line: int = 0,
        list_path: Path | None = None,
    ) -> None:
        """`name`: None takes the stem of the image's file."""
        parts = {
            key: Path(value).expanduser() if isinstance(value, str) else value
            for key, value in (("image", image), ("label", label), ("regions", regions))
        }
        if name is None:
            name = parts["image"].stem if isinstance(parts["image"], Path) else ""
        rest = {"tags": None if tags is None else tuple(tags), "name": name, "line": line, "list_path": list_path}
        for key, value in {**parts, **rest}.items():
            object.__setattr__(self, key, value)

    @property
    def where(self) -> str:
        """`<list> line <n>`, or the sample's name: the start of every message about it."""
        return f"sample {self.name!r}" if self.list_path is None else f"{self.list_path} line {self.line}"

    @property
    def files(self) -> list[Path]:
        """The files of the sample, image first."""
        return [path for path in (self.image, self.label, self.regions) if isinstance(path, Path)]

    @property
    def image_path(self) -> Path:
        """The image's file. Raises DataError for an array, which a data list cannot name."""
        if not isinstance(self.image, Path):
            raise DataError(f"{self.where}: expected an image file, got an array")
        return self.image


def named(samples: Iterable[Sample]) -> list[Sample]:
    """The samples, those without a name numbered by their place: 00000, 00001, .. Raises DataError for other things."""
    if isinstance(samples, Sample):
        raise DataError("samples: expected a list of spml.Sample, got one spml.Sample")
    samples = list(samples)
    for i, sample in enumerate(samples):
        if not isinstance(sample, Sample):
            raise DataError(f"samples: expected each to be a spml.Sample, got {type(sample).__name__} at place {i}")
    return [sample if sample.name else replace(sample, name=f"{i:05d}") for i, sample in enumerate(samples)]


def read_image(source: Sample | str | Source | Image.Image) -> np.ndarray:
    """Read an image as RGB, turned by its EXIF orientation, as in every viewer.

    Grey, palette, RGBA (alpha dropped), CMYK and 16-bit images (high byte) are converted.

    Args:
        source: a sample, a path, a PIL image, or an array (H, W, 3) uint8, which comes back as it is.

    Returns:
        (H, W, 3) uint8.
    Raises:
        DataError: missing, damaged, values without a known range (float, 32-bit), or an array of another kind.
    """
    where = f"{source.where}: " if isinstance(source, Sample) and (source.name or source.list_path) else ""
    content = source.image if isinstance(source, Sample) else source
    if isinstance(content, np.ndarray):
        if content.ndim != 3 or content.shape[2] != 3 or content.dtype != np.uint8 or not content.size:
            raise DataError(f"{where}image: expected (H, W, 3) uint8, got {content.shape} {content.dtype}")
        return content
    if isinstance(content, Image.Image):
        return _pixels(content.copy(), "image")
    path = Path(content)
    try:
        with _open(path) as image:
            return _pixels(image, f"{where}image {path}")
    except _DAMAGED as error:
        raise DataError(f"{where}{_unreadable('image', path, error)}") from error


def _open(path: str | Path) -> Image.Image:
    """Open a file, or a member of a tar."""
    return Image.open(path if members.split(path) is None else members.open_binary(path))


def _pixels(image: Image.Image, what: str) -> np.ndarray:
    """(H, W, 3) uint8 of an opened image, turned upright."""
    if image.mode == "F":
        raise DataError(f"{what} has float values: save it with 8 bits a channel")
    image.load()
    if _orientation(image) != 1:
        ImageOps.exif_transpose(image, in_place=True)
    if image.mode.startswith("I;16") or image.mode == "I":
        grey = np.asarray(image).astype(np.int64)
        if grey.size and not 0 <= grey.min() <= grey.max() <= 65535:
            raise DataError(f"{what} has 32-bit values: save it with 8 bits a channel")
        return np.repeat((grey >> 8).astype(np.uint8)[..., None], 3, axis=2)
    if image.mode == "P":  # by way of RGBA: Pillow warns about transparent palettes otherwise
        return np.array(image.convert("RGBA").convert("RGB"))
    return np.array(image.convert("RGB"))


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 where there is none or where it cannot be read."""
    if image.format == "PNG" and not any(key in image.info for key in _PNG_EXIF):
        return 1
    try:
        return int(image.getexif().get(ORIENTATION, 1))
    except _DAMAGED + (TypeError, KeyError):
        return 1


def _upright_size(header: Image.Image) -> tuple[int, int]:
    """(width, height) of an opened image, not decoded, once it is turned. Pillow swaps a TIFF's by itself."""
    width, height = header.size
    turned = header.format != "TIFF" and _orientation(header) in TURNED
    return (height, width) if turned else (width, height)


def image_size(path: str | Path) -> tuple[int, int]:
    """(H, W) of an image as `read_image` returns it, from its header. Raises DataError where it cannot be read."""
    try:
        with _open(path) as header:
            width, height = _upright_size(header)
    except _DAMAGED as error:
        raise DataError(_unreadable("image", Path(path), error)) from error
    return height, width


def read_label(source: str | Source, where: str = "") -> np.ndarray:
    """Read a label PNG: 8-bit grey values or palette indexes ('P': the index, not the colour), 1-bit as 0 and 1.

    It accepts 16- and 32-bit files and integer arrays if every value fits 8 bits. It does not turn labels: people draw
    a label on the upright image.

    Args:
        source: a path, or an array (H, W) of integers.
        where: the start of the error message, `Sample.where` for a file of a list.
    Returns:
        (H, W) uint8.
    Raises:
        DataError: missing or damaged, a colour image, a JPEG, or a value over 255.
    """
    where = f"{where}: " if where else ""
    if isinstance(source, np.ndarray):
        label, what = source, "label"
        if label.ndim != 2 or not label.size or label.dtype.kind not in "iub":
            raise DataError(f"{where}label: expected (H, W) integers, got {label.shape} {label.dtype}")
    else:
        path = Path(source)
        what = f"label {path}"
        try:
            with _open(path) as image:
                _check_kind(image, path, where)
                label = np.array(image)
        except _DAMAGED as error:
            raise DataError(f"{where}{_unreadable('label', path, error)}") from error
    if label.dtype not in (np.uint8, np.bool_) and label.size and not 0 <= label.min() <= label.max() <= 255:
        raise DataError(f"{where}{what} has values {label.min()} to {label.max()}: expected 0 to 255")
    return label.astype(np.uint8, copy=False)


def read_sample_files(sample: Sample) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
    """Image (H, W, 3), label and regions (H, W), uint8; None for what the sample does not have. Raises DataError."""
    image = read_image(sample)
    labels = []
    for source in (sample.label, sample.regions):
        label = None
        if source is not None:
            label = read_label(source, sample.where)
            _check_size(sample, source, image.shape[1::-1], label.shape[::-1])
        labels.append(label)
    return image, labels[0], labels[1]


def check_header(sample: Sample) -> None:
    """Open the headers of a sample's files: labels are single-channel, no JPEG, and of the image's upright size.

    Raises: DataError for the first that is not, or that cannot be opened; for arrays that cannot be used.
    """
    size = _size_of(sample, "image", sample.image)
    for source in (sample.label, sample.regions):
        if source is not None:
            _check_size(sample, source, size, _size_of(sample, "label", source))


def _size_of(sample: Sample, kind: str, source: Source) -> tuple[int, int]:
    """(width, height) of an image or label, whose kind is checked."""
    if isinstance(source, np.ndarray):
        array = read_image(sample) if kind == "image" else read_label(source, sample.where)
        return array.shape[1], array.shape[0]
    try:
        with _open(source) as header:
            if kind == "image":
                return _upright_size(header)
            if source is sample.label:
                _check_columns(sample, header, source)
            _check_kind(header, source, f"{sample.where}: ")
            return header.size
    except _DAMAGED as error:
        raise DataError(f"{sample.where}: {_unreadable(kind, source, error)}") from error


def _check_columns(sample: Sample, label: Image.Image, path: Path) -> None:
    """Raise DataError where the label is a colour image and the image looks like a label."""
    if _is_single(label.mode) or not isinstance(sample.image, Path):
        return
    with _open(sample.image) as image:
        if _is_single(image.mode) and len(np.unique(np.asarray(image))) < _FEW_VALUES:
            raise DataError(
                f"{sample.where}: the columns of image and label look swapped: {path} is a colour image, "
                f"{sample.image} holds few grey values; expected `image label [regions]`"
            )


def _check_kind(label: Image.Image, path: Path, where: str) -> None:
    if not _is_single(label.mode):
        raise DataError(
            f"{where}label {path} is a colour image (mode {label.mode}): expected 8-bit grey or palette indexes; "
            "write each pixel's class number to a grey PNG"
        )
    if label.format in ("JPEG", "MPO"):
        raise DataError(f"{where}label {path} is a JPEG, whose compression changes class numbers: expected a PNG")


def _is_single(mode: str) -> bool:
    return mode in ("1", "L", "P", "I") or mode.startswith("I;16")


def _check_size(sample: Sample, source: Source, image: tuple[int, ...], label: tuple[int, ...]) -> None:
    """Sizes are (width, height)."""
    if image == label:
        return
    names = [f" {part}" if isinstance(part, Path) else "" for part in (source, sample.image)]
    hint = ""
    if isinstance(sample.image, Path) and image == label[::-1]:
        with _open(sample.image) as header:
            if header.size == label and _orientation(header) in TURNED:
                hint = ", turned as its EXIF orientation says: labels must be turned as well"
    what = "regions" if source is sample.regions and source is not sample.label else "label"
    raise DataError(
        f"{sample.where}: {what}{names[0]} is {label[0]} x {label[1]}, "
        f"but image{names[1]} is {image[0]} x {image[1]}{hint}"
    )


def _unreadable(kind: str, path: Path, error: Exception) -> str:
    reason = "no such file" if isinstance(error, FileNotFoundError) else str(error).split("\n")[0]
    return f"cannot read {kind} {path}: {reason or type(error).__name__}"
