"""COCO's instances: one JSON file. Polygons and run lengths are labels; an object with its box alone is a box."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from spml.data.formats import patches, rle
from spml.data.formats.base import (
    Annotation,
    Drawing,
    Export,
    Format,
    Shape,
    Source,
    agreed_size,
    extent,
    is_number,
    name_of,
    pairs,
    points_of,
    short,
)
from spml.data.formats.images import Images
from spml.data.formats.safe import json_kind, kind_of, read_object
from spml.data.raster import Point
from spml.data.samples import DataError
from spml.files import write_json

LETTERS = 7  # at most, of a run length in COCO's compressed text


def files_of(source: Path) -> list[Path]:
    """The JSON files that may hold a whole data set: the source, or those in it and in its folder `annotations`."""
    if source.is_file():
        return [source] if source.suffix.lower() == ".json" else []
    return sorted(source.glob("*.json")) + sorted(source.glob("annotations/*.json"))


def recognise(source: Path) -> bool:
    """A JSON file with `images` and `annotations`, or a folder with one."""
    return any(json_kind(path) == "coco" for path in files_of(source)[:3])


def read(source: Path, images: Images, given: tuple[str, ...] = ()) -> Source:
    """The annotations of a JSON file. Raises UserError for a bad one: file and entry."""
    path, content = the_file(source, "coco")
    names, category = categories(content, path, given)
    entries = image_entries(content, path)
    objects: dict[Any, list[tuple[int, dict]]] = {key: [] for key in entries}
    for number, entry in enumerate(content["annotations"], start=1):
        where = f"{path} annotation {number}"
        if not isinstance(entry, dict) or key_of(entry.get("image_id")) not in entries:
            raise DataError(f"{where}: expected an object with the image_id of an image, got {short(entry)}")
        if key_of(entry.get("category_id")) not in category:
            raise DataError(f"{where}: expected the category_id of a category, got {short(entry.get('category_id'))}")
        objects[key_of(entry["image_id"])].append((number, entry))
    found = images.find_all((entry["file_name"], f"{path} image {key}") for key, entry in entries.items())

    def annotations() -> Iterator[Annotation]:
        for image, (key, entry) in zip(found, entries.items(), strict=True):
            where = f"{path} image {key}"
            size = agreed_size(image, said_size(entry, where), where)
            drawing = Drawing(names, size)
            for number, one in objects[key]:
                _add(drawing, one, category[key_of(one["category_id"])], number, f"{path} annotation {number}")
            drawn = (drawing.shapes, drawing.mask)
            yield Annotation(image, entry["file_name"], size[1], size[0], *drawn, where=where)

    return Source(names, annotations())


def the_file(source: Path, form: str) -> tuple[Path, dict[str, Any]]:
    """The JSON file of a source and its content. Raises UserError where there is none of this form, or several."""
    fitting = [source] if source.is_file() else [path for path in files_of(source) if json_kind(path) == form]
    got = ", ".join(path.name for path in fitting) or "none"
    if len(fitting) == 1:
        content = read_object(fitting[0], "COCO's JSON")
        if kind_of(content) == form:
            return fitting[0], content
        got = f"{fitting[0].name}, which is another"
    what = "whose annotations have `segments_info`" if form == "coco_panoptic" else "with `images` and `annotations`"
    raise DataError(f"{source}: expected one JSON file of COCO {what}, got {got}")


def key_of(value: Any) -> Any:
    """An id that can be looked up; None for what is no id."""
    return value if isinstance(value, int | str) else None


def categories(content: dict[str, Any], path: Path, given: Sequence[str]) -> tuple[tuple[str, ...], dict[Any, str]]:
    """The class names in the order of the file, and the name of each category id."""
    names, category = list(given), {}
    listed = content.get("categories")
    for number, entry in enumerate(listed if isinstance(listed, list) else [], start=1):
        where = f"{path} category {number}"
        if not isinstance(entry, dict) or key_of(entry.get("id")) is None:
            raise DataError(f"{where}: expected an object with id and name, got {short(entry)}")
        name = category[entry["id"]] = name_of(entry.get("name"), where)
        if name not in names:
            names.append(name)
    if not category:
        raise DataError(f"{path}: expected a list `categories`, got {short(listed)}")
    return tuple(names), category


def image_entries(content: dict[str, Any], path: Path) -> dict[Any, dict[str, Any]]:
    """The images by their id."""
    entries: dict[Any, dict[str, Any]] = {}
    for number, entry in enumerate(content["images"], start=1):
        where = f"{path} image {number}"
        if (
            not isinstance(entry, dict)
            or key_of(entry.get("id")) is None
            or not isinstance(entry.get("file_name"), str)
        ):
            raise DataError(f"{where}: expected an object with id and file_name, got {short(entry)}")
        if entry["id"] in entries:
            raise DataError(f"{where}: the id {short(entry['id'])} stands twice")
        entries[entry["id"]] = entry
    return entries


def said_size(entry: dict[str, Any], where: str) -> tuple[float, float]:
    """(H, W) that an image's entry says, 0 where it says nothing."""
    size = (entry.get("height") or 0, entry.get("width") or 0)
    if not all(is_number(side) for side in size):
        raise DataError(f"{where}: expected width and height in pixels, got {short(size)}")
    return size


def _add(drawing: Drawing, entry: dict[str, Any], name: str, number: int, where: str) -> None:
    """Add one object to the drawing of its image. Several polygons are one object, whose group is its number."""
    held = entry.get("segmentation")
    if isinstance(held, dict):
        drawing.add_mask(name, _mask(held, drawing.size, where))
        return
    if held:
        if not isinstance(held, list) or not all(isinstance(part, list) for part in held):
            raise DataError(f"{where}: expected polygons [[x, y, ..], ..] or run lengths, got {short(held)}")
        group = number if len(held) > 1 else None
        for part in held:
            drawing.add(Shape("polygon", name, points_of(pairs(part, where), where, 3), group=group))
        return
    box = entry.get("bbox")
    if not isinstance(box, list) or len(box) != 4 or not all(is_number(value) for value in box):
        raise DataError(f"{where}: expected a segmentation or bbox [x, y, width, height], got {short(box)}")
    x, y, width, height = box
    drawing.add(Shape("box", name, extent([(x, y), (x + width, y + height)])))


def _mask(held: dict[str, Any], size: tuple[int, int], where: str) -> Any:
    """The mask (H, W) bool of run lengths, a list or COCO's text."""
    counts = held.get("counts")
    if held.get("size") != list(size):
        raise DataError(f"{where}: expected run lengths of size {list(size)}, got {short(held.get('size'))}")
    if isinstance(counts, str):
        if len(counts) > LETTERS * (size[0] * size[1] + 2):
            raise DataError(f"{where}: the compressed run lengths are longer than those of any mask of this size")
        counts = rle.decompress(counts, where)
    if not isinstance(counts, list):
        raise DataError(f"{where}: expected run lengths as counts, got {short(counts)}")
    return rle.decode(counts, size, where)


def write(export: Export) -> None:
    """annotations.json. Patches of labels are compressed run lengths; points, lines and tags have no place in COCO."""
    images: list[dict[str, Any]] = []
    found: list[dict[str, Any]] = []
    for number, annotation in enumerate(export.annotations, start=1):
        size = {"width": annotation.width, "height": annotation.height}
        images.append({"id": number, "file_name": annotation.name, **size})
        export.take(annotation, f"images/{annotation.name}")
        objects = [_object(one, annotation, export.names) for one in patches.objects(annotation, export)]
        for shape in annotation.shapes:
            if shape.kind == "box":
                objects.append(_box(shape, export.names))
            elif shape.kind != "polygon":
                export.lose(shape.kind)
        export.lose("tag", len(annotation.tags))
        found += [{"id": place, "image_id": number, **one} for place, one in enumerate(objects, start=len(found) + 1)]
    classes = [{"id": place, "name": name, "supercategory": ""} for place, name in enumerate(export.names, start=1)]
    content = {"info": {}, "licenses": [], "images": images, "annotations": found, "categories": classes}
    write_json(export.place("annotations.json"), content)


def _object(one: patches.Instance, annotation: Annotation, names: Sequence[str]) -> dict[str, Any]:
    if one.polygons:
        held: Any = [[value for point in shape.points for value in point] for shape in one.polygons]
        corners = extent([point for shape in one.polygons for point in shape.points])
    else:
        whole = patches.frame(one, (annotation.height, annotation.width))
        held = {"size": list(whole.shape), "counts": rle.compress(rle.encode(whole))}
        rows, columns = one.window
        corners = (columns.start, rows.start), (columns.stop, rows.stop)
    return _entry(one.name, held, corners, one.area, names)


def _box(shape: Shape, names: Sequence[str]) -> dict[str, Any]:
    (x0, y0), (x1, y1) = extent(shape.points)
    return _entry(str(shape.label), [], ((x0, y0), (x1, y1)), (x1 - x0) * (y1 - y0), names)


def _entry(
    name: str, segmentation: Any, corners: tuple[Point, Point], area: float, names: Sequence[str]
) -> dict[str, Any]:
    (x0, y0), (x1, y1) = corners
    rest = {"area": area, "bbox": [x0, y0, x1 - x0, y1 - y0], "iscrowd": 0}
    return {"category_id": names.index(name) + 1, "segmentation": segmentation, **rest}


FORMAT = Format("COCO's instances: one JSON file", recognise, read, write)
