"""Writes a folder's annotations in another format."""

from collections.abc import Iterator
from pathlib import Path

from spml.data.formats.base import Annotation, Export, Format
from spml.data.formats.cut import without_erasers
from spml.data.formats.folder import CLASSES, read_classes, read_folder
from spml.data.formats.reading import Summary
from spml.data.formats.staged import Staged
from spml.errors import UserError
from spml.progress import progress

# What a format cannot hold, in words.
LOST = {"brush": "scribbles", "line": "lines", "point": "points", "box": "boxes", "tag": "tags"} | {
    "background": "patches of background"
}


def write(folder: Path, out: Path, form: str, entry: Format, images: bool, overwrite: bool) -> Summary:
    """Write all annotations of a folder; see `spml.data.formats.export_annotations`."""
    names = read_classes(folder)
    if not names:
        raise UserError(f"{folder / CLASSES}: expected class names, one a line, found none")
    summary = Summary(form, out, classes=names)

    def annotations() -> Iterator[Annotation]:
        for annotation in progress(read_folder(folder, names), "writing"):
            summary.images += 1
            summary.strokes += len(annotation.shapes)
            summary.labels += annotation.mask is not None
            yield without_erasers(annotation, names)

    with Staged(out) as staged:
        export = Export(names, annotations(), staged.place, images)
        entry.write(export)
        if not summary.images:
            raise UserError(f"{folder}: expected strokes/*.json or labels/*.png, found none")
        staged.commit(overwrite)
    summary.notes = [f"{count} {LOST.get(kind, kind)} have no place in {form}" for kind, count in export.lost.items()]
    return summary
