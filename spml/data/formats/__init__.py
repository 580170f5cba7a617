"""Annotations of other tools, in and out: a table of formats, and the folder that the studio and `spml run` take."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from spml.data.formats.base import Format
from spml.data.formats.folder import says_the_same
from spml.data.formats.reading import Import, Summary, given_names, images_of
from spml.data.formats.safe import unpacked
from spml.data.formats.staged import Staged
from spml.data.formats.writing import write
from spml.errors import UserError
from spml.tables import Table

# In the order in which `detect` tries them.
TABLE: Table[Format] = Table(
    "spml.data.formats",
    {
        "coco_panoptic": "coco_panoptic:FORMAT",
        "coco": "coco:FORMAT",
        "labelme": "labelme:FORMAT",
        "cvat": "cvat:FORMAT",
        "yolo": "yolo:FORMAT",
        "cityscapes": "cityscapes:FORMAT",
        "voc": "voc:FORMAT",
    },
)


def detect(source: str | Path) -> str:
    """The format of a file or folder. Raises UserError where it is of none that we know."""
    source = Path(source)
    if not source.exists():
        raise UserError(f"no such file or folder: {source}")
    for name, entry in TABLE.items():
        if entry.recognise(source):
            return name
    raise UserError(f"{source}: looks like none of the formats {', '.join(TABLE)}; --format names one")


def import_annotations(
    source: str | Path,
    folder: str | Path,
    format: str = "auto",
    *,
    classes: str | Path | None = None,
    image_dir: str | Path | None = None,
    overwrite: bool = False,
) -> Summary:
    """Take annotations into a folder that the studio and `spml run` can use. All of them, or none.

    Points, lines and boxes stay weak: they become strokes, weak/<name>.png (254 unlabelled) and, boxes, boxes.json.
    Polygons become filled polygons, masks labels/<name>.png. Lists/<kind>.txt name the images of each kind of
    annotation, tags.txt the classes of each. Photographs that lie outside of the folder are copied into it.

    Args:
        source: a file, a folder, or a zip file of one.
        format: of TABLE; auto: what `detect` says.
        classes: file of class names, which fixes their order; left out: classes.txt of the folder, with new names
            after its own; else the source's, a background before them where shapes leave pixels without a class.
        image_dir: where the photographs are, if not in the folder; left out: around the source.
        overwrite: replace what the folder has of these images.

    Raises: UserError for a source with any fault, by file and place, and for files that are there with other content.
    """
    folder, explicit = Path(folder).resolve(), given_names(classes)
    with _one_line(), unpacked(Path(source).resolve()) as content:
        name = detect(content) if format == "auto" else format
        entry = _entry(name)
        with Staged(folder, says_the_same) as staged:
            one = Import(folder, explicit, staged, overwrite)
            return one.run(name, entry, content, images_of(content, folder, image_dir))


def export_annotations(
    folder: str | Path, out: str | Path, format: str, *, images: bool = False, overwrite: bool = False
) -> Summary:
    """Write the strokes and labels of a folder in another format.

    Objects are polygons, and connected patches of what labels give to a class. What the format cannot hold stands in
    Summary.notes.

    Args:
        folder: with classes.txt, and strokes/*.json or labels/*.png.
        out: the folder to write.
        format: of TABLE.
        images: copy the photographs beside, where the format has them.
        overwrite: replace what is there with other content.

    Raises: UserError for a folder that cannot be read, and for files that are there.
    """
    folder, out = Path(folder).resolve(), Path(out).resolve()
    entry = _entry(format)
    if not folder.is_dir():
        raise UserError(f"no such folder: {folder}")
    if out == folder and (format != "labelme" or images):
        raise UserError(f"{out}: expected another folder to write to, got the one that is read")
    with _one_line():
        return write(folder, out, format, entry, images, overwrite)


@contextlib.contextmanager
def _one_line() -> Iterator[None]:
    """What the machine refuses, such as a name that is too long or a full disk, as a UserError."""
    try:
        yield
    except OSError as error:
        place = "" if error.filename is None else f"{str(error.filename)[-300:]}: "
        raise UserError(f"{place}{error.strerror or error}") from error


def _entry(name: str) -> Format:
    if name not in TABLE:
        raise UserError(f"--format: expected one of {', '.join(TABLE)}, got {name!r}")
    return TABLE[name]


__all__ = ["TABLE", "Summary", "detect", "export_annotations", "import_annotations"]
