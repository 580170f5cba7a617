"""Import and export of annotations through the page, by `spml.data.formats`."""

import importlib
import os
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from spml.app.strokes import short
from spml.app.studio import Studio
from spml.errors import UserError

FORMATS = ("labelme", "cvat", "coco", "coco_panoptic", "voc", "yolo", "cityscapes")
FOLDER = "folder"  # the files as they are
KEPT = ("strokes", "labels", "weak", "lists", "classes.txt", "tags.txt", "boxes.json")
BESIDE = "Unpack this into the folder of the photographs: annotations name them by their file names.\n"
SUFFIXES = {b"PK": ".zip", b"<": ".xml", b"{": ".json", b"[": ".json", b"\x89PNG": ".png"}  # by how files begin


def _formats() -> Any:
    try:
        return importlib.import_module("spml.data.formats")
    except ImportError as error:
        raise UserError("this version has no import and export of formats yet") from error


def import_file(studio: Studio, content: bytes, form: str, name: str) -> dict[str, Any]:
    """Take annotations in, one file or a zip of them.

    They replace the strokes of their images, as one edit, which undo takes back. Edits of that time wait.

    Args:
        name: of the file, for formats that name no image.

    Raises:
        UserError: a file that cannot be used; then nothing has changed.
    """
    if form not in ("auto", *FORMATS):
        raise UserError(f"format: expected one of auto, {', '.join(FORMATS)}, got {short(form)}")
    if not content:
        raise UserError("import: expected a file, got nothing")
    formats = _formats()
    with tempfile.TemporaryDirectory() as folder, studio.files.writing, studio.store.lock:
        studio.files.flush()
        path = Path(folder) / _file_name(name, content)
        path.write_bytes(content)
        images = studio.images.folder
        found = formats.import_annotations(path, images, format=form, image_dir=images, overwrite=True)
        problems = studio.take_over()
    told = {name: getattr(found, name, None) for name in ("message", "images", "strokes", "labels", "notes")}
    return {**told, "classes": len(studio.store.state.classes), "problems": problems, "seq": studio.store.seq}


def _file_name(name: str, content: bytes) -> str:
    """A name without folders, with the suffix that the content has."""
    base = os.path.basename(name.replace("\\", "/"))
    good = base.isprintable() and bool(base.strip(". ")) and len(base.encode()) < 200
    if good and "." in base.strip("."):
        return base
    start = content.lstrip()[:4]
    suffix = next((suffix for begin, suffix in SUFFIXES.items() if start.startswith(begin)), ".txt")
    return f"{base if good else 'annotations'}{suffix}"


def export_archive(studio: Studio, form: str, images: bool = False) -> Path:
    """A zip of the annotations in a format, a temporary file that the caller removes. Raises UserError.

    Args:
        images: with the photographs, where the format has them beside.
    """
    if form not in (*FORMATS, FOLDER):
        raise UserError(f"format: expected one of {', '.join(FORMATS)}, {FOLDER}, got {short(form)}")
    studio.files.flush()
    if form == FOLDER:
        return _zipped(studio, studio.images.folder, KEPT)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / form
        _formats().export_annotations(studio.images.folder, out, form, images=images)
        if not images:
            (out / "README.txt").write_text(BESIDE, encoding="utf-8")
        return _zipped(studio, out, [path.name for path in sorted(out.iterdir())])


def _zipped(studio: Studio, folder: Path, names: Iterable[str]) -> Path:
    handle, name = tempfile.mkstemp(suffix=".zip", dir=studio.home)
    try:
        with os.fdopen(handle, "wb") as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in _files(folder, names):
                archive.write(path, path.relative_to(folder).as_posix())
    except OSError as error:
        os.unlink(name)
        raise UserError(f"cannot write the archive: {error.strerror or error}") from error
    return Path(name)


def _files(folder: Path, names: Iterable[str]) -> Iterator[Path]:
    for name in names:
        top = folder / name
        for path in sorted(top.rglob("*")) if top.is_dir() else [top]:
            if path.is_file() and not path.is_symlink() and not path.name.startswith("."):
                yield path
