"""Takes annotations of any format into a folder: classes, strokes, labels, weak labels, lists."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from spml.classes import MAX_CLASSES, UNLABELLED, means_background, read_class_names
from spml.data.annotate_list import write_label
from spml.data.formats.base import Annotation, Format, Source
from spml.data.formats.cut import cut
from spml.data.formats.folder import CLASSES, LISTS, boxes_of, list_rows, read_classes, strokes_text, tags_of
from spml.data.formats.images import SUFFIXES, Images, new_name
from spml.data.formats.staged import Staged
from spml.data.raster import paint
from spml.data.samples import DataError, image_size
from spml.errors import UserError
from spml.files import read_json
from spml.progress import progress

# Folders inside a data set: photographs may lie beside them.
NESTED = tuple("annotations Annotations labels masks json gtFine SegmentationClass SegmentationClassPNG".split())
KEPT = ("strokes/{}.json", "weak/{}.png", "labels/{}.png")  # of an image


@dataclass
class Summary:
    """What was taken in or written out.

    Attributes:
        kinds: how many images each list of `spml run` got; of an export nothing.
        notes: what else there is to say, a line each.
    """

    format: str
    folder: Path
    images: int = 0
    strokes: int = 0
    labels: int = 0
    classes: tuple[str, ...] = ()
    kinds: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def message(self) -> str:
        """One line."""
        kinds = ", ".join(f"{kind} {count}" for kind, count in self.kinds.items())
        lists = f"; lists: {kinds}" if kinds else ""
        return (
            f"{self.format}: {self.images} images with {self.strokes} strokes and {self.labels} label images "
            f"of {len(self.classes)} classes in {self.folder}{lists}"
        )


class Import:
    """One import.

    Args:
        folder: that gets the annotations.
        explicit: class names that the user gave, or ().
        staged: collects its files.

    Raises: UserError where the folder has other classes.
    """

    def __init__(self, folder: Path, explicit: tuple[str, ...], staged: Staged, overwrite: bool) -> None:
        self.folder, self.explicit, self.staged, self.overwrite = folder, explicit, staged, overwrite
        self.there = read_classes(folder)
        if explicit and self.there and explicit[: len(self.there)] != self.there and not overwrite:
            raise UserError(f"{folder / CLASSES}: holds other class names than --classes; --overwrite replaces them")
        self.rows: dict[str, dict[str, str]] = {kind: {} for kind in LISTS}
        self.tags: dict[str, str] = {}
        self.boxes: dict[str, list[dict[str, int]]] = {}
        self.seen: dict[str, tuple[str, str, str]] = {}  # stem: name, image in the source, where it was annotated
        self.cut: list[str] = []
        self.lost: list[str] = []
        self.unlisted: list[str] = []
        self.bare = 0  # images without any annotation

    def run(self, form: str, entry: Format, source: Path, images: Images) -> Summary:
        """Read everything, then move it to the folder."""
        found = entry.read(source, images, self.explicit or self.there)
        names = self.names(found)
        table = np.arange(256, dtype=np.uint8)
        table[: len(found.names)] = [names.index(name) for name in found.names]
        self.staged.place(CLASSES, grown=True).write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
        summary = Summary(form, self.folder, classes=names, notes=list(found.notes))
        for annotation in progress(found.annotations, "taking in"):
            self.take(annotation, names, table, images, summary)
        self.write_lists(summary)
        self.note(summary)
        self.staged.commit(self.overwrite)
        return summary

    def names(self, found: Source) -> tuple[str, ...]:
        """The classes of the folder: those given, then new ones; a background first, where shapes leave one."""
        known = self.explicit or self.there
        new = [name for name in found.names if name not in known]
        if new and self.explicit:
            raise UserError(f"--classes: has no class {new[0]!r}, which the source has ({len(new)} of its classes)")
        if known:
            names = (*known, *new)
        elif found.whole:
            names = found.names
        else:
            ground = [name for name in found.names if means_background(name)][:1] or ["background"]
            names = (*ground, *(name for name in found.names if name not in ground))
        if not 2 <= len(names) <= MAX_CLASSES:
            raise UserError(f"{self.folder}: expected 2 to {MAX_CLASSES} classes in all, got {len(names)}")
        return names

    def take(
        self, found: Annotation, names: tuple[str, ...], table: np.ndarray, images: Images, summary: Summary
    ) -> None:
        """Put the files of one image into the stage."""
        image = str(found.image or found.name)
        found = self.place_image(found, images)
        self.check_name(found, image)
        size = (found.height, found.width)
        shapes = []
        for shape in found.shapes:
            inside = cut(shape, size)
            if inside != [shape]:
                (self.cut if inside else self.lost).append(found.where)
            shapes += inside
        mask = None if found.mask is None else table[found.mask]
        ids = {name: place for place, name in enumerate(names)}
        if mask is not None:
            polygons = [shape for shape in shapes if shape.kind == "polygon"]
            mask = paint(polygons, ids, size, onto=mask, rim=False)
        found = replace(found, shapes=shapes, mask=mask, tags=tuple(dict.fromkeys(found.tags)))
        weak = paint(shapes, ids, size)
        painted = bool((weak != UNLABELLED).any())
        if found.shapes or found.tags:
            self.staged.place(f"strokes/{found.stem}.json").write_text(strokes_text(found), encoding="utf-8")
        if painted:
            write_label(self.staged.place(f"weak/{found.stem}.png"), weak)
        if mask is not None:
            write_label(self.staged.place(f"labels/{found.stem}.png"), mask)
        if self.overwrite:
            self.staged.drop([name.format(found.stem) for name in KEPT])
        self.list_image(found, names, painted)
        summary.images += 1
        summary.strokes += len(shapes)
        summary.labels += mask is not None

    def place_image(self, found: Annotation, images: Images) -> Annotation:
        """The annotation with its photograph in the folder: one that lies elsewhere is copied, spaces in its name as _.

        Raises: DataError where the folder has another photograph that differs in the suffix alone.
        """
        inside = images.name_of(found.image) if found.image is not None else None
        if inside is not None and found.image is not None:
            for suffix in SUFFIXES:
                if (other := found.image.with_suffix(suffix)) != found.image and other.is_file():
                    raise DataError(
                        f"{found.where}: {other} and {found.image.name} differ in the suffix alone; rename one of them"
                    )
            return replace(found, name=inside)
        name = new_name(found.name)
        path = self.staged.place(name)
        if found.image is None:
            path.write_bytes(found.content or b"")
        else:
            shutil.copyfile(found.image, path)
        height, width = image_size(path)
        return replace(found, name=name, width=width, height=height)

    def check_name(self, found: Annotation, image: str) -> None:
        """Raises DataError where another image has the same name but for folders and suffix: lists go by the stem.

        Args:
            image: where the source has it.
        """
        stem = found.stem.rpartition("/")[2]
        _, other, where = self.seen.setdefault(stem, (found.name, image, found.where))
        if where == found.where:
            return
        if other == image:
            raise DataError(f"{found.where}: the image {image} has annotations in {where} as well")
        raise DataError(
            f"{found.where}: the images {other} and {image} are both called {stem!r}; files are named after them, "
            "so names must differ"
        )

    def list_image(self, found: Annotation, names: Sequence[str], painted: bool) -> None:
        """Note the lines of an image in lists, tags.txt and boxes.json."""
        rows = list_rows(found, painted)
        if rows and len(found.name.split()) != 1:
            self.unlisted.append(found.name)
            return
        self.bare += not rows
        for kind, row in rows.items():
            self.rows[kind][found.name] = row
        stem = found.stem.rpartition("/")[2]
        if rows:
            self.tags[stem] = " ".join([stem, *map(str, tags_of(found, names))])
        if any(shape.kind == "box" for shape in found.shapes):
            self.boxes[stem] = boxes_of(found, names)

    def write_lists(self, summary: Summary) -> None:
        """Write lists, tags.txt and boxes.json with what is there; an image taken in anew loses its old lines."""
        for kind, rows in self.rows.items():
            path = self.folder / "lists" / f"{kind}.txt"
            self._grow(f"lists/{kind}.txt", _lines(path), rows, {name for name, _, _ in self.seen.values()})
            if rows:
                summary.kinds[kind] = len(rows)
        self._grow("tags.txt", _lines(self.folder / "tags.txt"), self.tags, set(self.seen))
        path = self.folder / "boxes.json"
        held = read_json(path, "boxes") if path.is_file() else {}
        if not isinstance(held, dict):
            raise DataError(f"{path}: expected an object of boxes by name, got {type(held).__name__}")
        self._grow("boxes.json", held, self.boxes, set(self.seen))

    def _grow(self, name: str, old: dict[str, Any], new: dict[str, Any], taken: set[str]) -> None:
        """Write a file of entries with the old and the new ones, unless it holds them already.

        Args:
            taken: keys of the images that this import took in.
        """
        gone = taken if self.overwrite else set()
        rows = {**{key: row for key, row in old.items() if key not in gone}, **new}
        if rows == old:
            return
        self._check_kept(name, rows, old)
        if not rows:  # nothing reads an empty list
            self.staged.drop([name])
            return
        if name.endswith(".json"):
            text = "{" + ",\n".join(f"{json.dumps(key)}: {json.dumps(row)}" for key, row in rows.items()) + "}\n"
        else:
            text = "".join(f"{row}\n" for row in rows.values())
        self.staged.place(name, grown=True).write_text(text, encoding="utf-8")

    def _check_kept(self, name: str, rows: dict[str, Any], old: dict[str, Any]) -> None:
        other = [key for key, row in old.items() if rows.get(key) != row]
        if other and not self.overwrite:
            raise UserError(
                f"{self.folder / name}: has another line for {other[0]!r} ({len(other)} in all); "
                "--overwrite replaces them"
            )

    def note(self, summary: Summary) -> None:
        """Say what was cut, left out, or is missing."""
        for places, what in (
            (self.cut, "reach out of their images and are cut"),
            (self.lost, "lie outside and are left out"),
        ):
            if places:
                summary.notes.append(f"{len(places)} shapes {what}, such as in {places[0]}")
        if self.unlisted:
            summary.notes.append(
                f"{len(self.unlisted)} images have spaces in their names, so no list names them: {self.unlisted[0]}"
            )
        if self.bare:
            summary.notes.append(f"{self.bare} images have no annotation")
        if not means_background(summary.classes[0]):
            summary.notes.append("class 0 is no background: train with dataset.background=none")


def _lines(path: Path) -> dict[str, str]:
    """The lines of a list by their first word."""
    if not path.is_file():
        return {}
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {path}: {error}") from error
    return {line.split()[0]: line for line in lines if line.strip()}


def given_names(classes: str | Path | None) -> tuple[str, ...]:
    """The names of a file, () without one."""
    return () if classes is None else read_class_names(classes)


def images_of(source: Path, folder: Path, image_dir: str | Path | None) -> Images:
    """Where to look for photographs: `image_dir`, else around the source."""
    if image_dir is not None:
        if not Path(image_dir).is_dir():
            raise UserError(f"--image_dir: no such folder: {image_dir}")
        return Images(folder, [Path(image_dir).resolve()])
    root = source if source.is_dir() else source.parent
    return Images(folder, [root], [root.parent] if root.name in NESTED else [])
