"""YOLO: a text file an image, of polygons in parts of the image's width and height; rows of four numbers are boxes."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from spml.classes import MAX_CLASSES
from spml.data.formats import patches
from spml.data.formats.base import Annotation, Export, Format, Shape, Source, agreed_size, extent, name_of, pairs, short
from spml.data.formats.images import Images
from spml.data.raster import Point
from spml.data.samples import DataError

OUTSIDE = 1.0  # of the image, beyond which a number can be no part of its side


def recognise(source: Path) -> bool:
    """A folder with a YAML file of `names` and text files in `labels`."""
    if not source.is_dir() or not _files(source):
        return False
    try:
        return _table(source) is not None
    except DataError:  # it has a YAML file, a damaged one
        return True


def _table(source: Path) -> Path | None:
    """The YAML file, or the text file of names of older sets."""
    for path in [*sorted(source.glob("*.yaml")), *sorted(source.glob("*.yml"))]:
        if "names" in _yaml(path):
            return path
    return next((path for path in (source / "classes.txt", source / "obj.names") if path.is_file()), None)


def _yaml(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, ValueError, RecursionError) as error:
        raise DataError(f"cannot read {path} as YAML: {' '.join(str(error).split())[:200]}") from error
    return content if isinstance(content, dict) else {}


def _files(source: Path) -> list[Path]:
    """The text files in folders `labels`."""
    return [path for path in sorted(source.glob("**/*.txt")) if "labels" in path.relative_to(source).parts[:-1]]


def read(source: Path, images: Images, given: tuple[str, ...] = ()) -> Source:
    """The polygons and boxes of a data set. Raises DataError for a bad one: file and line."""
    files = _files(source) if source.is_dir() else []
    if not files:
        raise DataError(f"{source}: expected a folder with labels/<name>.txt, found none")
    table = _table(source)
    names = _names(table) if table is not None else given
    if not names:
        raise DataError(f"{source}: expected data.yaml with `names`, or --classes, found neither")
    stems = [_stem(path, source) for path in files]
    wanted = [((stem, stem.rpartition("/")[2]), str(path)) for stem, path in zip(stems, files, strict=True)]
    found = images.find_stems(wanted, frozenset())
    parts = zip(files, stems, found, strict=True)
    return Source(tuple(names), (_annotation(path, image, names) for path, _, image in parts))


def _stem(path: Path, source: Path) -> str:
    """The place of a text file below its folder `labels`."""
    parts = list(path.relative_to(source).with_suffix("").parts)
    last = len(parts) - 1 - parts[::-1].index("labels")
    return "/".join(parts[last + 1 :])


def _names(path: Path) -> tuple[str, ...]:
    if path.suffix.lower() in (".yaml", ".yml"):
        held = _yaml(path)["names"]
        if isinstance(held, dict) and set(held) != set(range(len(held))):
            raise DataError(f"{path}: expected names 0: .., 1: .., up to the last, got {short(list(held))}")
        listed = [held[place] for place in range(len(held))] if isinstance(held, dict) else held
    else:
        listed = [line for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    if not isinstance(listed, list) or not 1 <= len(listed) <= MAX_CLASSES:
        raise DataError(f"{path}: expected `names`, 1 to {MAX_CLASSES} of them, got {short(listed)}")
    names = tuple(name_of(str(name) if isinstance(name, int | float) else name, f"{path} names") for name in listed)
    if len(set(names)) < len(names):
        raise DataError(f"{path}: a class name stands twice in {short(list(names))}")
    return names


def _annotation(path: Path, image: Path, names: tuple[str, ...]) -> Annotation:
    height, width = agreed_size(image, (0, 0), str(path))
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {path}: {error}") from error
    shapes = []
    for number, line in enumerate(lines, start=1):
        if line.strip():
            shapes.append(_shape(line.split(), (height, width), names, f"{path} line {number}"))
    return Annotation(image, image.name, width, height, shapes, where=str(path))


def _shape(words: list[str], size: tuple[int, int], names: tuple[str, ...], where: str) -> Shape:
    if not (words[0].isascii() and words[0].isdigit() and len(words[0]) < 6 and int(words[0]) < len(names)):
        raise DataError(f"{where}: expected a class 0 to {len(names) - 1}, got {short(words[0])}")
    try:
        values = [float(word) for word in words[1:]]
    except ValueError:
        raise DataError(f"{where}: expected numbers, got {short(' '.join(words))}") from None
    if not all(-OUTSIDE <= value <= 1 + OUTSIDE for value in values):
        raise DataError(f"{where}: expected parts of the image's width and height, 0 to 1, got {short(values)}")
    label = names[int(words[0])]
    if len(values) == 4:
        x, y, half_x, half_y = values[0], values[1], values[2] / 2, values[3] / 2
        corners = _scaled([(x - half_x, y - half_y), (x + half_x, y + half_y)], size)
        return Shape("box", label, extent(corners))
    if len(values) < 6:
        raise DataError(f"{where}: expected a class and at least 3 points x y, or a box x y width height")
    return Shape("polygon", label, tuple(_scaled(pairs(values, where), size)))


def _scaled(points: list[tuple[float, float]], size: tuple[int, int]) -> list[Point]:
    """Parts of the image's sides as pixels, free of what dividing and multiplying by the size adds."""
    return [(round(x * size[1], 6), round(y * size[0], 6)) for x, y in points]


def write(export: Export) -> None:
    """data.yaml and labels/<name>.txt; photographs go to images/.

    A patch of labels is one polygon along the edges of its pixels. Boxes stand in files without polygons alone: mixed
    files are read as polygons. Points, lines and tags have no place.
    """
    for annotation in export.annotations:
        ones = patches.objects(annotation, export)
        lines = [line for one in ones for line in _lines(one, annotation, export.names)]
        found = [shape for shape in annotation.shapes if shape.kind == "box"]
        if lines:
            export.lose("box", len(found))
        else:
            lines = [_row(_box(shape), str(shape.label), annotation, export.names, box=True) for shape in found]
        for shape in annotation.shapes:
            if shape.kind not in ("polygon", "box"):
                export.lose(shape.kind)
        export.lose("tag", len(annotation.tags))
        export.place(f"labels/{annotation.stem}.txt").write_text("".join(lines), encoding="ascii")
        export.take(annotation, f"images/{annotation.name}")
    names = dict(enumerate(export.names))
    content = {"train": "images", "val": "images", "names": names}  # without `path`: beside this file
    text = yaml.safe_dump(content, allow_unicode=True, sort_keys=False)
    export.place("data.yaml").write_text(text, encoding="utf-8")


def _box(shape: Shape) -> list[Point]:
    """The centre, and width and height."""
    (x0, y0), (x1, y1) = extent(shape.points)
    return [((x0 + x1) / 2, (y0 + y1) / 2), (x1 - x0, y1 - y0)]


def _lines(one: patches.Instance, annotation: Annotation, names: tuple[str, ...]) -> Iterator[str]:
    for shape in one.polygons:
        yield _row(shape.points, one.name, annotation, names)
    if not one.polygons:
        left, top = one.window[1].start, one.window[0].start
        path = patches.one_polygon(patches.outline(one.inside))
        yield _row([(x + left, y + top) for x, y in path], one.name, annotation, names)


def _row(points: Any, name: str, annotation: Annotation, names: tuple[str, ...], box: bool = False) -> str:
    values = [number for x, y in points for number in (x / annotation.width, y / annotation.height)]
    if not box:
        values = [min(max(value, 0.0), 1.0) for value in values]
    return " ".join([str(names.index(name)), *(f"{value:.10g}" for value in values)]) + "\n"


FORMAT = Format("YOLO: text files of polygons, and data.yaml with names", recognise, read, write)
