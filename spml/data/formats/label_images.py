"""What formats of whole label images share: tables of class names, masks and their photographs, and what is written."""

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from spml.classes import IGNORE, MAX_CLASSES, UNLABELLED
from spml.data.formats.base import Annotation, Export, Source, agreed_size, name_of
from spml.data.formats.images import Images
from spml.data.formats.safe import DAMAGED
from spml.data.prepare.masks import mask_from_png
from spml.data.raster import paint
from spml.data.samples import DataError

# A file of class names beside label images, in the order in which they are looked for.
TABLES = ("labelmap.txt", "class_names.txt", "classes.txt", "names.txt", "labels.txt")
NUMBERED = re.compile(r"(\d+)\s*[:,;\t ]\s*(\S.*)")
COLOURED = re.compile(r"([^:]+):(\d+,\d+,\d+)?:[^:]*:[^:]*")  # name:r,g,b:parts:actions, of CVAT's labelmap.txt
FIRST_OF_LABELME = "__ignore__"  # in labelme's labels.txt, on the line before class 0


def read_names(folder: Path) -> tuple[str, ...]:
    """The class names beside label images, that of id 0 first; () where no file has them.

    A line is a name, `id name` on every line (with a colon or comma, too), or CVAT's `name:r,g,b:parts:actions`.
    Raises: DataError for a file that is no such table.
    """
    paths = [place / name for place in (folder, folder.parent) for name in TABLES if (place / name).is_file()]
    if not paths:
        return ()
    path = paths[0]
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read the class names in {path}: {error}") from error
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if lines and all(COLOURED.fullmatch(line) for line in lines):
        lines = [line.partition(":")[0] for line in lines]
    elif lines and all(NUMBERED.fullmatch(line) for line in lines):
        return _numbered(path, lines)
    elif lines and lines[0] == FIRST_OF_LABELME:
        lines = lines[1:]
    return _names(path, dict(enumerate(lines)))


def _numbered(path: Path, lines: Sequence[str]) -> tuple[str, ...]:
    table: dict[int, str] = {}
    for line in lines:
        found = NUMBERED.fullmatch(line)
        assert found is not None
        if table.setdefault(int(found[1][:9]), found[2]) != found[2]:
            raise DataError(f"{path}: the id {found[1]} stands twice")
    return _names(path, table)


def _names(path: Path, table: dict[int, str]) -> tuple[str, ...]:
    known = {value: name_of(name, f"{path} id {value}") for value, name in table.items() if value < UNLABELLED}
    if not known or any(value > IGNORE for value in table):
        raise DataError(f"{path}: expected 1 to {MAX_CLASSES} class names, a line each, got {len(table)}")
    names = tuple(known.get(value, f"class {value}") for value in range(max(known) + 1))
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise DataError(f"{path}: the class name {twice!r} stands twice")
    return names


def source_of(
    masks: Sequence[tuple[Path, Path]],
    names: Sequence[str],
    *,
    change: Callable[[np.ndarray], np.ndarray] | None = None,
) -> Source:
    """The annotations of masks.

    Args:
        masks: label image and photograph of each.
        names: of the classes; none: as many as the ids need, "class 0", ..
        change: what is done to each mask first.

    Raises (on reading): DataError for a mask of another size than its photograph, or with an id that has no name.
    """
    names = tuple(names) or _counted([path for path, _ in masks])

    def annotations() -> Iterator[Annotation]:
        for path, image in masks:
            mask = _read(path)
            height, width = agreed_size(image, mask.shape, str(path))
            mask = mask if change is None else change(mask)
            odd = np.setdiff1d(mask[mask >= len(names)], [UNLABELLED, IGNORE])
            if len(odd):
                raise DataError(f"{path}: holds the ids {odd[:5].tolist()}, but there are {len(names)} class names")
            yield Annotation(image, image.name, width, height, mask=mask, where=str(path))

    return Source(names, annotations(), whole=True)


def _read(path: Path) -> np.ndarray:
    """(H, W) uint8 of a mask: its grey values or palette indexes, or the ids of VOC's colours. Raises DataError."""
    try:
        return mask_from_png(path)
    except DAMAGED as error:
        raise DataError(f"cannot read the mask {path}: {str(error).splitlines()[0]}") from error


def _counted(paths: Sequence[Path]) -> tuple[str, ...]:
    """ "class 0", .. for all ids that masks hold."""
    found = np.zeros(256, bool)
    for path in paths:
        found |= np.bincount(_read(path).ravel(), minlength=256) > 0
    found[[UNLABELLED, IGNORE]] = False
    return tuple(f"class {value}" for value in range(max(2, int(found.nonzero()[0].max(initial=0)) + 1)))


def photographs(
    masks: Sequence[Path], images: Images, stems: Callable[[Path], Sequence[str]]
) -> list[tuple[Path, Path]]:
    """Each mask with its photograph, whose name without suffix is one of `stems`. Raises DataError for missing ones."""
    left_out = frozenset(masks)
    wanted = [(stems(path), str(path)) for path in masks]
    return list(zip(masks, images.find_stems(wanted, left_out), strict=True))


def written(export: Export) -> Iterator[tuple[Annotation, np.ndarray]]:
    """The label image (H, W) uint8 of each annotation: labels, and on them what was drawn; 255 where nothing is known.

    Other tools know no unlabelled pixels: 254 becomes 255. Boxes and tags have no place, and are counted as lost.
    """
    ids = {name: place for place, name in enumerate(export.names)}
    for annotation in export.annotations:
        shapes = [shape for shape in annotation.shapes if shape.kind != "box"]
        export.lose("box", len(annotation.shapes) - len(shapes))
        export.lose("tag", len(annotation.tags))
        label = paint(shapes, ids, (annotation.height, annotation.width), onto=annotation.mask, rim=False)
        label[label == UNLABELLED] = IGNORE
        yield annotation, label
