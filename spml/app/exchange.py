"""Import and export of annotations through the page, by `spml.data.formats`."""

import importlib
import io
import os
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from spml.app.strokes import short
from spml.errors import UserError

FORMATS = ("labelme", "cvat", "coco", "voc", "yolo", "cityscapes", "folder")
MAX_FILES, MAX_UNPACKED = 20_000, 1 << 30  # of an archive
KEPT = ("strokes", "labels", "weak", "lists", "classes.txt")  # of the folder as it is


def _formats() -> Any:
    try:
        return importlib.import_module("spml.data.formats")
    except ImportError as error:
        raise UserError("this version has no import and export of formats yet") from error


def import_file(studio: Any, content: bytes, form: str, name: str) -> dict[str, Any]:
    """Take annotations in, one file or a zip of them; it adds to what is there. Raises UserError.

    Args:
        name: of the file, for formats that name no image.
    """
    if form not in ("auto", *FORMATS):
        raise UserError(f"format: expected one of auto, {', '.join(FORMATS)}, got {short(form)}")
    if not content:
        raise UserError("import: expected a file, got nothing")
    formats = _formats()
    studio.files.flush()
    with tempfile.TemporaryDirectory() as folder:
        path = _unpacked(content, Path(folder), name)
        found = formats.import_annotations(path, studio.images.folder, format=form)
    problems = studio.take_over()
    counted = {name: getattr(found, name, None) for name in ("message", "images", "strokes")}
    return {**counted, "classes": len(studio.store.state.classes), "problems": problems, "seq": studio.store.seq}


def _unpacked(content: bytes, folder: Path, name: str) -> Path:
    """The file, or the folder that a zip was unpacked to."""
    if not zipfile.is_zipfile(io.BytesIO(content)):
        path = folder / (_safe(name) or "annotations")
        path.write_bytes(content)
        return path
    place = folder / "unpacked"
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = archive.infolist()
            if len(members) > MAX_FILES or sum(one.file_size for one in members) > MAX_UNPACKED:
                raise UserError(f"import: expected at most {MAX_FILES} files of {MAX_UNPACKED} bytes in all")
            for one in members:
                archive.extract(one, place)  # it drops .. and absolute paths
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError, OSError, EOFError, ValueError) as error:
        raise UserError(f"import: a zip that cannot be read: {str(error)[:100]}") from error
    return place


def _safe(name: str) -> str:
    """A file name without folders."""
    base = os.path.basename(name.replace("\\", "/"))
    return base if base.isprintable() and base.strip(".") and len(base.encode()) < 200 else ""


def export_archive(studio: Any, form: str) -> bytes:
    """A zip of the annotations in a format. Raises UserError."""
    if form not in FORMATS:
        raise UserError(f"format: expected one of {', '.join(FORMATS)}, got {short(form)}")
    studio.files.flush()
    if form == "folder":
        return _zipped(studio.images.folder, KEPT)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / form
        _formats().export_annotations(studio.images.folder, out, form)
        return _zipped(out, [path.name for path in sorted(out.iterdir())])


def _zipped(folder: Path, names: Any) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            top = folder / name
            for path in sorted(top.rglob("*")) if top.is_dir() else [top]:
                if path.is_file() and not path.is_symlink() and not path.name.startswith("."):
                    archive.write(path, path.relative_to(folder).as_posix())
    return buffer.getvalue()
