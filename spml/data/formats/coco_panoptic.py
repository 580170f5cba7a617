"""COCO's panoptic form: a JSON file, and a PNG an image whose colours number segments (id = R + 256 G + 65536 B)."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from spml.classes import UNLABELLED, means_background
from spml.data.formats import patches
from spml.data.formats.base import Annotation, Export, Format, Source, agreed_size, short
from spml.data.formats.coco import (
    categories,
    files_of,
    image_entries,
    key_of,
    said_size,
    the_file,
)
from spml.data.formats.images import Images, plain_name
from spml.data.formats.safe import DAMAGED, json_kind
from spml.data.samples import DataError
from spml.files import write_json

FOLDER = "panoptic"  # of the PNGs, beside panoptic.json


def recognise(source: Path) -> bool:
    """A JSON file whose annotations have `segments_info`, or a folder with one."""
    return any(json_kind(path) == "coco_panoptic" for path in files_of(source)[:3])


def read(source: Path, images: Images, given: tuple[str, ...] = ()) -> Source:
    """The labels of a panoptic data set; pixels of no segment are unlabelled. Raises UserError: file and entry."""
    path, content = the_file(source, "coco_panoptic")
    names, category = categories(content, path, given)
    entries = image_entries(content, path)
    wanted: list[tuple[str, str]] = []
    masks: list[tuple[Path, dict[int, int]]] = []
    for number, entry in enumerate(content["annotations"], start=1):
        where = f"{path} annotation {number}"
        if not isinstance(entry, dict) or key_of(entry.get("image_id")) not in entries:
            raise DataError(f"{where}: expected an object with the image_id of an image, got {short(entry)}")
        wanted.append((entries[entry["image_id"]]["file_name"], where))
        masks.append((_png(entry, path, where), _labels(entry, category, names, where)))
    sizes = [said_size(entries[entry["image_id"]], f"{path} images") for entry in content["annotations"]]
    found = images.find_all(wanted)

    def annotations() -> Iterator[Annotation]:
        for image, (name, where), (png, labels), said in zip(found, wanted, masks, sizes, strict=True):
            size = agreed_size(image, said, where)
            yield Annotation(image, name, size[1], size[0], mask=_mask(png, labels, size), where=where)

    return Source(names, annotations(), whole=True)


def _png(entry: dict[str, Any], path: Path, where: str) -> Path:
    """The PNG of an annotation, beside the JSON file or in one of the folders where panoptic sets keep them."""
    if not isinstance(entry.get("file_name"), str):
        raise DataError(f"{where}: expected file_name, the PNG of its segments, got {short(entry.get('file_name'))}")
    name = plain_name(entry["file_name"])
    for folder in (path.parent / path.stem, path.parent / FOLDER, path.parent):
        if (folder / name).is_file():
            return folder / name
    raise DataError(f"{where}: no file {name} in {path.parent / path.stem}, {path.parent / FOLDER} or {path.parent}")


def _labels(entry: dict[str, Any], category: dict[Any, str], names: tuple[str, ...], where: str) -> dict[int, int]:
    """Segment id to class."""
    listed = entry.get("segments_info")
    labels = {}
    for segment in listed if isinstance(listed, list) else [None]:
        known = isinstance(segment, dict) and type(segment.get("id")) is int
        if segment is None or not known or key_of(segment.get("category_id")) not in category:
            raise DataError(
                f"{where}: expected segments_info with id and the category_id of a category, got {short(segment)}"
            )
        labels[segment["id"]] = names.index(category[segment["category_id"]])
    return labels


def _mask(path: Path, labels: dict[int, int], size: tuple[int, int]) -> np.ndarray:
    try:
        with Image.open(path) as image:
            if image.size != size[::-1] or image.mode not in ("RGB", "RGBA"):
                raise DataError(
                    f"{path}: expected a colour PNG of {size[1]} x {size[0]} pixels, got {image.mode}, "
                    f"{image.size[0]} x {image.size[1]}"
                )
            colour = np.asarray(image.convert("RGB")).astype(np.int64)
    except DAMAGED as error:
        raise DataError(f"cannot read {path}: {str(error).splitlines()[0]}") from error
    ids, place = np.unique(colour @ np.array([1, 256, 65536]), return_inverse=True)
    unknown = [value for value in ids.tolist() if value and value not in labels]
    if unknown:
        raise DataError(f"{path}: the segment {unknown[0]} is not in segments_info")
    table = np.array([labels[value] if value else UNLABELLED for value in ids.tolist()], np.uint8)
    return table[place].reshape(size)


def write(export: Export) -> None:
    """panoptic.json and panoptic/<name>.png. What is unlabelled or void is segment 0; weak shapes have no place."""
    images, found = [], []
    for number, annotation in enumerate(export.annotations, start=1):
        size = (annotation.height, annotation.width)
        ids, segments = np.zeros(size, np.int64), []
        ones = patches.instances(annotation, export.names)
        for place, one in enumerate(ones, start=1):  # a later object covers earlier ones
            ids[one.window][one.inside] = place
        for place, one in enumerate(ones, start=1):
            inside = ids[one.window] == place
            if inside.any():
                segments.append(_segment(place, one, inside, export.names))
        colour = np.stack([ids & 255, ids >> 8 & 255, ids >> 16], axis=2).astype(np.uint8)
        name = f"{annotation.stem}.png"
        Image.fromarray(colour).save(export.place(f"{FOLDER}/{name}"))
        export.take(annotation, f"images/{annotation.name}")
        images.append({"id": number, "file_name": annotation.name, "width": size[1], "height": size[0]})
        found.append({"image_id": number, "file_name": name, "segments_info": segments})
        for shape in annotation.shapes:
            if shape.kind != "polygon":
                export.lose(shape.kind)
        export.lose("tag", len(annotation.tags))
    classes = [
        {"id": place, "name": name, "supercategory": "", "isthing": int(not means_background(name))}
        for place, name in enumerate(export.names, start=1)
    ]
    content = {"info": {}, "licenses": [], "images": images, "annotations": found, "categories": classes}
    write_json(export.place("panoptic.json"), content)


def _segment(number: int, one: patches.Instance, inside: np.ndarray, names: tuple[str, ...]) -> dict[str, Any]:
    rows, columns = inside.any(1).nonzero()[0], inside.any(0).nonzero()[0]
    left, top = int(columns[0]) + one.window[1].start, int(rows[0]) + one.window[0].start
    box = [left, top, int(columns[-1] - columns[0]) + 1, int(rows[-1] - rows[0]) + 1]
    area = int(inside.sum())
    return {"id": number, "category_id": names.index(one.name) + 1, "area": area, "bbox": box, "iscrowd": 0}


FORMAT = Format("COCO's panoptic JSON and PNGs", recognise, read, write)
