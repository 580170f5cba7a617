"""Reads files that strangers wrote: archives without surprises, small pictures out of text."""

import base64
import binascii
import contextlib
import functools
import io
import json
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from spml.data.samples import ORIENTATION, TURNED, DataError
from spml.files import read_json

MOST_BYTES, MOST_FILES = 8 << 30, 200_000  # of an archive, unpacked
MOST_RATIO = 200  # unpacked to packed bytes, of archives above a megabyte: text packs to a fiftieth
DAMAGED = (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError)


def read_object(path: Path, what: str) -> dict[str, Any]:
    """The object of a JSON file. Raises UserError for other files."""
    content = read_json(path, what)
    if not isinstance(content, dict):
        raise DataError(f"{path}: expected {what}, a JSON object, got {type(content).__name__}")
    return content


def text_bytes(text: Any, where: str) -> bytes:
    """What base64 text holds. Raises DataError for other text."""
    try:
        return base64.b64decode(text, validate=False)
    except (TypeError, ValueError, binascii.Error) as error:
        raise DataError(f"{where}: expected base64 text, got what cannot be decoded ({error})") from error


def text_mask(text: Any, where: str) -> np.ndarray:
    """(h, w) bool of a PNG in base64 text. Raises DataError for other text."""
    try:
        with Image.open(io.BytesIO(text_bytes(text, where)), formats=("PNG",)) as image:
            inside = np.asarray(image if image.mode in ("1", "L", "P") else image.convert("L"))
            return inside.astype(bool)
    except DAMAGED as error:
        raise DataError(f"{where}: expected a PNG as base64 text: {str(error).splitlines()[0]}") from error


def content_size(content: bytes, where: str) -> tuple[int, int]:
    """(H, W) of an image's file in memory, turned as its EXIF orientation says. Raises DataError for other content."""
    try:
        with Image.open(io.BytesIO(content)) as image:
            width, height = image.size
            turned = image.format != "TIFF" and image.getexif().get(ORIENTATION, 1) in TURNED
    except DAMAGED as error:
        raise DataError(f"{where}: expected an image: {str(error).splitlines()[0]}") from error
    return (width, height) if turned else (height, width)


def mask_text(mask: np.ndarray) -> str:
    """A mask (h, w) bool as a PNG of 0 and 255 in base64 text."""
    file = io.BytesIO()
    Image.fromarray(mask.astype(np.uint8) * 255).save(file, format="PNG")
    return base64.b64encode(file.getvalue()).decode("ascii")


@contextlib.contextmanager
def unpacked(source: Path) -> Iterator[Path]:
    """A source as it is, or a folder with what a zip file holds, for as long as the context lasts.

    Raises: DataError for no such file, a damaged archive, one that names files outside itself or links, or one that
        unpacks to far more than it is.
    """
    if not source.exists():
        raise DataError(f"no such file or folder: {source}")
    if source.is_dir() or not zipfile.is_zipfile(source):
        yield source
        return
    with tempfile.TemporaryDirectory() as folder:
        try:
            with zipfile.ZipFile(source) as archive:
                _check(source, archive)
                archive.extractall(folder)
        except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, *DAMAGED) as error:
            raise DataError(f"cannot unpack {source}: {error}") from error
        yield _inner(Path(folder))


def _check(source: Path, archive: zipfile.ZipFile) -> None:
    entries = archive.infolist()
    size, packed = sum(entry.file_size for entry in entries), sum(entry.compress_size for entry in entries)
    if len(entries) > MOST_FILES or size > MOST_BYTES or (size > 1 << 20 and size > MOST_RATIO * max(packed, 1)):
        raise DataError(
            f"{source}: unpacks to {len(entries)} files of {size} bytes; expected at most {MOST_FILES} files, "
            f"{MOST_BYTES} bytes, and {MOST_RATIO} times its size"
        )
    for entry in entries:
        parts = entry.filename.replace("\\", "/").split("/")
        if entry.filename.startswith(("/", "\\")) or ".." in parts or ":" in parts[0]:
            raise DataError(f"{source}: names a file outside itself, {entry.filename[:80]!a}")
        if entry.external_attr >> 28 == 0o12:
            raise DataError(f"{source}: holds a link, {entry.filename[:80]!a}; expected files")


def _inner(folder: Path) -> Path:
    """The folder in which an archive's content lies, if that is all that it holds."""
    entries = [path for path in folder.iterdir() if path.name != "__MACOSX"]
    return entries[0] if len(entries) == 1 and entries[0].is_dir() else folder


def json_kind(path: Path) -> str:
    """The format that a JSON file looks like, labelme, coco or coco_panoptic; "" for another or a damaged one."""
    try:
        found = path.stat()
    except OSError:
        return ""
    return _json_kind(path, found.st_mtime_ns, found.st_size)


@functools.lru_cache(maxsize=64)  # COCO's own file takes half a minute to read
def _json_kind(path: Path, time: int, size: int) -> str:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return ""
    return kind_of(content)


def kind_of(content: Any) -> str:
    """The format that the content of a JSON file looks like, as `json_kind` says it."""
    if not isinstance(content, dict):
        return ""
    if isinstance(content.get("images"), list) and isinstance(content.get("annotations"), list):
        first = (content["annotations"][:1] or [None])[0]
        return "coco_panoptic" if isinstance(first, dict) and "segments_info" in first else "coco"
    return "labelme" if "shapes" in content else ""
