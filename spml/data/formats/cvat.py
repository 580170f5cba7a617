"""CVAT for images 1.1: one XML file. Its masks and polygons are labels, its boxes, polylines and points weak shapes."""

from collections.abc import Iterator
from pathlib import Path
from xml.etree.ElementTree import Element, ElementTree, SubElement, indent

import numpy as np

from spml.data.formats import patches, rle
from spml.data.formats.base import (
    PEN,
    Annotation,
    Drawing,
    Export,
    Format,
    Shape,
    Source,
    agreed_size,
    ellipse,
    extent,
    is_number,
    name_of,
    pairs,
    points_of,
    short,
    turned,
)
from spml.data.formats.images import Images
from spml.data.raster import Point
from spml.data.samples import DataError
from spml.data.xml import read_xml

SHAPES = ("box", "polyline", "polygon", "points", "ellipse", "mask")
PLAIN = ("tag", "attribute")  # other elements of an image
WRITTEN = {"box": "box", "brush": "polyline", "line": "polyline", "point": "points", "polygon": "polygon"}


def recognise(source: Path) -> bool:
    """An XML file with <annotations>, or a folder with an annotations.xml."""
    path = source / "annotations.xml" if source.is_dir() else source
    if path.suffix.lower() != ".xml" or not path.is_file():
        return False
    with path.open("rb") as file:
        return b"<annotations" in file.read(4096)


def read(source: Path, images: Images, given: tuple[str, ...] = ()) -> Source:
    """The annotations of an XML file. Raises DataError for a bad one: file, image and shape."""
    path = source / "annotations.xml" if source.is_dir() else source
    root = read_xml(path)
    if root.tag != "annotations":
        raise DataError(f"{path}: expected <annotations> of CVAT, got <{short(root.tag)}>")
    if root.find("track") is not None:
        raise DataError(f"{path}: expected `CVAT for images 1.1`, got tracks of a video; export it for images")
    elements = root.findall("image")
    if not elements:
        raise DataError(f"{path}: expected <image> elements, found none")
    names = list(given)
    for found in root.iterfind("meta//label"):
        if found.findtext("parent") is None:  # parts of skeletons have one
            _keep(names, name_of(found.findtext("name"), f"{path} <label>"))
    for number, element in enumerate(elements, start=1):
        for child in element:
            if child.tag in (*SHAPES, "tag"):
                _keep(names, name_of(child.get("label"), f"{path} image {number} <{child.tag}>"))
    wanted = [(element.get("name") or "", f"{path} image {n}") for n, element in enumerate(elements, start=1)]
    found_images = images.find_all(wanted)
    parts = zip(elements, wanted, found_images, strict=True)
    return Source(tuple(names), (_annotation(one, name, where, image, names) for one, (name, where), image in parts))


def _keep(names: list[str], name: str) -> None:
    if name not in names:
        names.append(name)


def _annotation(element: Element, name: str, where: str, image: Path, names: list[str]) -> Annotation:
    said = (_number(element, "height", where), _number(element, "width", where))
    height, width = agreed_size(image, said, where)
    drawing, tags = Drawing(names, (height, width)), []
    children = list(enumerate(element, start=1))
    order = {id(child): _number(child, "z_order", f"{where} shape {n}", 0.0) for n, child in children}
    for number, child in sorted(children, key=lambda item: order[id(item[1])]):
        place = f"{where} shape {number} <{child.tag}>"
        if child.tag == "tag":
            tags.append(name_of(child.get("label"), place))
        elif child.tag == "mask":
            drawing.add_mask(name_of(child.get("label"), place), *_mask(child, (height, width), place))
        elif child.tag not in PLAIN:
            for shape in _shapes(child, place):
                drawing.add(shape)
    return Annotation(image, name, width, height, drawing.shapes, drawing.mask, tuple(tags), where)


def _shapes(element: Element, where: str) -> Iterator[Shape]:
    """A shape in our form; of a turned box the upright one around it, which is as weak."""
    if element.tag not in SHAPES:
        raise DataError(f"{where}: expected one of {', '.join((*SHAPES, 'tag'))}, got <{short(element.tag)}>")
    label = name_of(element.get("label"), where)
    group = _number(element, "group_id", where, 0.0)
    own = int(group) if group else None
    if element.tag == "box":
        x0, y0, x1, y1 = (_number(element, key, where) for key in ("xtl", "ytl", "xbr", "ybr"))
        corners = [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]
        centre = ((x0 + x1) / 2, (y0 + y1) / 2)
        angle = _number(element, "rotation", where, 0.0)
        yield Shape("box", label, extent(turned(corners, centre, angle) if angle else corners), 1.0, own)
    elif element.tag == "ellipse":
        x, y, radius_x, radius_y = (_number(element, key, where) for key in ("cx", "cy", "rx", "ry"))
        angle = _number(element, "rotation", where, 0.0)
        yield Shape("polygon", label, ellipse(x, y, abs(radius_x), abs(radius_y), angle), 1.0, own)
    elif element.tag == "polygon":
        yield Shape("polygon", label, _points(element, where, 3), 1.0, own)
    elif element.tag == "polyline":
        points = _points(element, where, 1)
        yield Shape("line" if len(points) == 2 else "brush", label, points, _width(element, where), own)
    else:
        yield from (Shape("point", label, (p,), _width(element, where), own) for p in _points(element, where, 1))


def _points(element: Element, where: str, least: int) -> tuple[Point, ...]:
    """Points "x,y;x,y"."""
    text = (element.get("points") or "").replace(";", ",").strip(", ")
    try:
        values = [float(word) for word in text.split(",")] if text else []
    except ValueError:
        raise DataError(f'{where}: expected points "x,y;x,y", got {short(text)}') from None
    return points_of(pairs(values, where), where, least)


def _width(element: Element, where: str) -> float:
    """The attribute `width` of a drawn line, which our export writes; labelme's pen where there is none."""
    for found in element.findall("attribute"):
        if found.get("name") == "width":
            try:
                value = float(found.text or "")
            except ValueError:
                value = 0.0
            if is_number(value) and 0 < value <= 1000:
                return value
    return PEN


def _number(element: Element, key: str, where: str, default: float | None = None) -> float:
    text = element.get(key)
    if text is None and default is not None:
        return default
    try:
        value = float(text or "")
    except ValueError:
        value = float("nan")
    if not is_number(value):
        raise DataError(f"{where}: expected a number as {key}, got {short(text)}")
    return value


def _mask(element: Element, size: tuple[int, int], where: str) -> tuple[np.ndarray, int, int]:
    """The mask (h, w) bool of run lengths along the rows, and the column and row where it begins."""
    left, top, width, height = (int(_number(element, key, where)) for key in ("left", "top", "width", "height"))
    if width <= 0 or height <= 0 or left < 0 or top < 0 or top + height > size[0] or left + width > size[1]:
        raise DataError(
            f"{where}: expected a mask inside {size[1]} x {size[0]} pixels, got {width} x {height} at {left}, {top}"
        )
    words = (element.get("rle") or "").replace(",", " ").split()
    if not all(word.isascii() and word.isdigit() and len(word) < 12 for word in words):
        raise DataError(f"{where}: expected run lengths as rle, got {short(element.get('rle'))}")
    return rle.decode([int(word) for word in words], (height, width), where, order="C"), left, top


def write(export: Export) -> None:
    """annotations.xml, as CVAT exports and uploads it; photographs go to images/."""
    root = Element("annotations")
    SubElement(root, "version").text = "1.1"
    task = SubElement(SubElement(root, "meta"), "task")
    labels = SubElement(task, "labels")
    for name in export.names:
        label = SubElement(labels, "label")
        SubElement(label, "name").text = name
        SubElement(label, "type").text = "any"
        SubElement(label, "attributes")
    for number, annotation in enumerate(export.annotations):
        size = {"width": str(annotation.width), "height": str(annotation.height)}
        image = SubElement(root, "image", {"id": str(number), "name": annotation.name, **size})
        export.take(annotation, f"images/{annotation.name}")
        below, shapes = patches.layers(annotation, export.names)
        for one in below:
            _write_mask(image, one)
        for shape in shapes:
            _write_shape(image, shape)
        for tag in annotation.tags:
            SubElement(image, "tag", {"label": tag, "source": "manual"})
    indent(root)
    ElementTree(root).write(export.place("annotations.xml"), encoding="utf-8", xml_declaration=True)


def _write_mask(image: Element, one: patches.Instance) -> None:
    height, width = one.inside.shape
    place = {"left": one.window[1].start, "top": one.window[0].start, "width": width, "height": height}
    counts = ", ".join(map(str, rle.encode(one.inside, order="C")))
    words = {"label": one.name, "source": "manual", "occluded": "0", "rle": counts}
    SubElement(image, "mask", {**words, **{key: str(value) for key, value in place.items()}, "z_order": "0"})


def _write_shape(image: Element, shape: Shape) -> None:
    kind = "points" if len(shape.points) == 1 else WRITTEN[shape.kind]
    words = {"label": str(shape.label), "source": "manual", "occluded": "0"}
    if kind == "box":
        (x0, y0), (x1, y1) = extent(shape.points)
        words |= {"xtl": repr(x0), "ytl": repr(y0), "xbr": repr(x1), "ybr": repr(y1)}
    else:
        words["points"] = ";".join(f"{x!r},{y!r}" for x, y in shape.points)
    if shape.group is not None:
        words["group_id"] = str(shape.group)
    element = SubElement(image, kind, {**words, "z_order": "0"})
    if shape.kind in ("brush", "line", "point"):
        SubElement(element, "attribute", {"name": "width"}).text = repr(shape.width)


FORMAT = Format("CVAT for images 1.1: one XML file", recognise, read, write)
