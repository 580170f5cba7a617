"""Data lists, and the images and labels they name. A mistake in them is one line that names the list and its line."""

import logging
import struct
import zlib
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from spml.errors import UserError
from spml.files import write_atomically

IGNORE = 255  # void and padding: leaves clustering altogether
UNLABELLED = 254  # what our tools write for a pixel without annotation; any other value >= num_classes reads the same

COLUMNS = ("image", "semantic label", "instance label")
# What Pillow raises on damaged files, beside OSError.
_DAMAGED = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, Image.DecompressionBombError)

logger = logging.getLogger(__name__)


class DataError(UserError):
    """A data list, an image or a label that cannot be used."""


@dataclass(frozen=True)
class Sample:
    """One line of a data list. `name` is the stem of the image file; `line` counts from 1."""

    image: Path
    semantic: Path | None
    instance: Path | None
    name: str
    line: int
    list_path: Path

    @property
    def where(self) -> str:
        """`<list> line <n>`: the start of every message about this sample."""
        return f"{self.list_path} line {self.line}"

    @property
    def files(self) -> list[Path]:
        """The files of the line, image first."""
        return [path for path in (self.image, self.semantic, self.instance) if path is not None]


def read_list(list_path: str | Path, data_dir: str | Path, columns: int = 0) -> list[Sample]:
    """Read a data list: `image [semantic [instance]]` on each line, separated by white space, relative to `data_dir`.

    A leading slash is dropped, as the released lists need (`/JPEGImages/x.jpg`); `data_dir` may hold spaces, entries
    may not. A byte order mark, Windows line ends and blank lines are fine. No file of the list is opened.

    Args:
        columns: how many columns the caller needs, 0 to 3.
    Raises:
        DataError: no such list, no sample in it, too few or too many columns, or lines of different width.
    """
    if not str(list_path):
        raise DataError("no data list is given: expected a text file, one sample a line")
    list_path, data_dir = Path(list_path), Path(data_dir).expanduser()
    try:
        text = list_path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise DataError(f"cannot read the data list {list_path}: {reason}") from error
    samples: list[Sample] = []
    width = 0
    for number, line in enumerate(text.split("\n"), start=1):
        entries = line.split()
        if not entries:
            continue
        _check_width(f"{list_path} line {number}", entries, columns, width)
        width = len(entries)
        paths = [data_dir / entry.lstrip("/") for entry in entries]
        image, semantic, instance = [*paths, None, None][:3]
        assert image is not None
        samples.append(Sample(image, semantic, instance, image.stem, number, list_path))
    if not samples:
        raise DataError(f"the data list {list_path} is empty: expected `image [semantic [instance]]` on each line")
    return samples


def _check_width(where: str, entries: Sequence[str], columns: int, width: int) -> None:
    """`width` is that of the lines before, 0 at the first."""
    if len(entries) > len(COLUMNS):
        raise DataError(
            f"{where}: expected at most 3 columns (image semantic instance), got {len(entries)}; "
            "paths in a list cannot hold spaces (--data_dir can)"
        )
    if len(entries) < columns:
        raise DataError(f"{where}: no {COLUMNS[len(entries)]}: expected {columns} columns, got {len(entries)}")
    if width and len(entries) != width:
        raise DataError(f"{where}: got {len(entries)} columns, but {width} on the lines before")


def write_list(path: str | Path, rows: Iterable[Sequence[str | Path]]) -> None:
    """Write a data list atomically: one line for each row of one to three paths relative to the data folder.

    Raises:
        DataError: a path that is empty or holds white space, or a row of the wrong width.
    """
    lines = []
    for row in rows:
        entries = [entry.as_posix() if isinstance(entry, Path) else entry for entry in row]
        if not 1 <= len(entries) <= len(COLUMNS):
            raise DataError(f"cannot write {path}: expected 1 to 3 columns, got {len(entries)}: {' '.join(entries)}")
        for entry in entries:
            if len(entry.split()) != 1 or entry != entry.strip():
                raise DataError(f"cannot write {path}: a path in a list must not be empty or hold spaces: {entry!r}")
        lines.append(" ".join(entries) + "\n")
    write_atomically(path, lambda file: file.write("".join(lines).encode()))


def check_unique_names(samples: Sequence[Sample]) -> None:
    """Raise DataError where two samples have one name: what inference writes for the second would replace the first."""
    seen: dict[str, Sample] = {}
    for sample in samples:
        if (first := seen.setdefault(sample.name, sample)) is not sample:
            raise DataError(
                f"{sample.where}: the name {sample.name!r} stands on line {first.line} too ({first.image}, "
                f"{sample.image}); output files are named after the image, so names must differ"
            )


def read_image(source: Sample | str | Path) -> np.ndarray:
    """Read an image as RGB.

    Grey, palette, RGBA (alpha dropped), CMYK and 16-bit images (high byte) are converted. The EXIF orientation is *not*
    applied: labels align with the stored pixels, and the released code ignores it too.

    Returns:
        (H, W, 3) uint8.
    Raises:
        DataError: missing, damaged, or values without a known range (float, 32-bit).
    """
    path, where = _source(source)
    try:
        with Image.open(path) as image:
            if image.mode.startswith("I;16") or image.mode == "I":
                grey = np.asarray(image).astype(np.int64)
                if grey.size and not 0 <= grey.min() <= grey.max() <= 65535:
                    raise DataError(f"{where}image {path} has 32-bit values: save it with 8 bits a channel")
                return np.repeat((grey >> 8).astype(np.uint8)[..., None], 3, axis=2)
            if image.mode == "F":
                raise DataError(f"{where}image {path} has float values: save it with 8 bits a channel")
            if image.mode == "P":  # by way of RGBA: Pillow warns about transparent palettes otherwise
                image = image.convert("RGBA")
            return np.array(image.convert("RGB"))
    except _DAMAGED as error:
        raise DataError(f"{where}{_unreadable('image', path, error)}") from error


def read_label(path: str | Path, where: str = "") -> np.ndarray:
    """Read a label PNG: 8-bit grey values or palette indexes ('P': the index, not the colour), 1-bit as 0 and 1.

    16- and 32-bit files are taken where every value fits 8 bits.

    Args:
        where: the start of the error message, `Sample.where` for a file of a list.
    Returns:
        (H, W) uint8.
    Raises:
        DataError: missing or damaged, a colour image, or a value over 255.
    """
    where = f"{where}: " if where else ""
    try:
        with Image.open(path) as image:
            _check_label_mode(image.mode, Path(path), where)
            label = np.array(image)
    except _DAMAGED as error:
        raise DataError(f"{where}{_unreadable('label', Path(path), error)}") from error
    if label.dtype not in (np.uint8, np.bool_) and label.size and not 0 <= label.min() <= label.max() <= 255:
        raise DataError(f"{where}label {path} has values {label.min()} to {label.max()}: expected 0 to 255")
    return label.astype(np.uint8)


def read_sample_files(sample: Sample) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
    """Image (H, W, 3), semantic and instance label (H, W), uint8; None for absent columns. Raises DataError."""
    image = read_image(sample)
    labels = []
    for path in (sample.semantic, sample.instance):
        label = None if path is None else read_label(path, sample.where)
        if path is not None and label is not None:
            _check_size(sample, path, image.shape[1::-1], label.shape[::-1])
        labels.append(label)
    return image, labels[0], labels[1]


def check_samples(
    samples: Sequence[Sample], num_classes: int, *, decode: bool = False, unlabelled_index: int | None = None
) -> None:
    """Check the files of a list before any work: all exist, their headers open, labels have the size of their image.

    Reads headers only, in threads, plus the semantic labels of 16 samples (`decode`: of all) for their values. It logs
    one warning where these hold values in [num_classes, 255) that look like classes: more than one value other than
    254 and `unlabelled_index` (the release marks unlabelled pixels by the single value num_classes).

    Raises:
        DataError: the first bad file, with list and line; for missing files also how many are missing; labels that all
            were decoded and hold no pixel of any class.
    """
    with ThreadPoolExecutor(16) as pool:
        _check_existence(samples, pool)
        for _ in pool.map(_check_headers, samples, chunksize=64):
            pass
        labelled = [sample for sample in samples if sample.semantic is not None]
        chosen = labelled if decode else labelled[:: max(1, -(-len(labelled) // 16))]
        found = np.zeros(256, bool)
        for present in pool.map(_label_values, chosen):
            found |= present
    if not chosen:
        return
    list_path = samples[0].list_path
    if len(chosen) == len(labelled) and not found[:num_classes].any():
        held = ", ".join(map(str, np.flatnonzero(found)))
        raise DataError(
            f"no pixel of the semantic labels of {list_path} is below num_classes {num_classes}: they hold {held}"
        )
    odd = [v for v in range(num_classes, UNLABELLED) if found[v] and v != unlabelled_index]
    if len(odd) > 1:
        shown = ", ".join(map(str, odd[:8])) + (", ..." if len(odd) > 8 else "")
        logger.warning(
            "warning: the semantic labels of %s hold %s, which num_classes %d makes unlabelled; is num_classes right?",
            *(list_path, shown, num_classes),
        )


def _check_existence(samples: Sequence[Sample], pool: ThreadPoolExecutor) -> None:
    missing: list[tuple[Sample, Path]] = []
    exist = pool.map(lambda sample: [path.is_file() for path in sample.files], samples, chunksize=64)
    for sample, flags in zip(samples, exist, strict=True):
        missing += [(sample, path) for path, there in zip(sample.files, flags, strict=True) if not there]
    if missing:
        sample, path = missing[0]
        total = sum(len(sample.files) for sample in samples)
        raise DataError(f"{sample.where}: no file {path} ({len(missing)} of the list's {total} files are missing)")


def _check_headers(sample: Sample) -> None:
    size = (0, 0)
    for path in sample.files:
        kind = "image" if path is sample.image else "label"
        try:
            with Image.open(path) as header:
                if kind == "image":
                    size = header.size
                else:
                    _check_label_mode(header.mode, path, f"{sample.where}: ")
                    _check_size(sample, path, size, header.size)
        except _DAMAGED as error:
            raise DataError(f"{sample.where}: {_unreadable(kind, path, error)}") from error


def _label_values(sample: Sample) -> np.ndarray:
    """(256,) bool: the values that the semantic label holds."""
    assert sample.semantic is not None
    return np.bincount(read_label(sample.semantic, sample.where).ravel(), minlength=256) > 0


def _check_label_mode(mode: str, path: Path, where: str) -> None:
    if mode not in ("1", "L", "P", "I") and not mode.startswith("I;16"):
        raise DataError(
            f"{where}label {path} is a colour image (mode {mode}): expected 8-bit grey or palette indexes; "
            "write each pixel's class number to a grey PNG"
        )


def _check_size(sample: Sample, path: Path, image: tuple[int, ...], label: tuple[int, ...]) -> None:
    """Sizes are (width, height)."""
    if image != label:
        raise DataError(
            f"{sample.where}: label {path} is {label[0]} x {label[1]}, "
            f"but image {sample.image} is {image[0]} x {image[1]}"
        )


def _source(source: Sample | str | Path) -> tuple[Path, str]:
    return (source.image, f"{source.where}: ") if isinstance(source, Sample) else (Path(source), "")


def _unreadable(kind: str, path: Path, error: Exception) -> str:
    reason = "no such file" if isinstance(error, FileNotFoundError) else str(error).split("\n")[0]
    return f"cannot read {kind} {path}: {reason or type(error).__name__}"
