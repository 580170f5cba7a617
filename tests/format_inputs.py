"""Small files of each format of annotations, made by hand, and what a folder holds."""

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

WIDTH, HEIGHT = 40, 30


def photographs(folder: Path, names: tuple[str, ...] = ("a.png", "b.png")) -> Path:
    """Photographs of 40 x 30 pixels."""
    rng = np.random.default_rng(0)
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)).save(folder / name)
    return folder


def content(folder: Path) -> dict[str, Any]:
    """All files of a folder but the photographs: text, and pixels of PNGs."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and path.suffix == ".png" and name.startswith(("weak", "labels")):
            found[name] = np.array(Image.open(path)).tolist()
        elif path.is_file() and path.suffix in (".txt", ".json"):
            found[name] = path.read_text()
    return found


def png_text(mask: np.ndarray) -> str:
    """Base64 text of a PNG."""
    file = io.BytesIO()
    Image.fromarray(mask).save(file, format="PNG")
    return base64.b64encode(file.getvalue()).decode()


def blob() -> np.ndarray:
    """A mask of 8 x 9 pixels with a hole and a notch."""
    inside = np.ones((8, 9), bool)
    inside[2:4, 3:5] = inside[6:, :2] = False
    return inside


def labelme_shape(kind: str, label: str, points: list, **more: Any) -> dict[str, Any]:
    rest = {"group_id": None, "description": "", "shape_type": kind, "flags": {}, "mask": None}
    return {"label": label, "points": points, **rest, **more}


def labelme_content(image: str, shapes: list, **more: Any) -> dict[str, Any]:
    size = {"imageHeight": HEIGHT, "imageWidth": WIDTH}
    rest = {"version": "5.5.0", "flags": {}, "imagePath": image, "imageData": None}
    return {**rest, "shapes": shapes, **size, **more}


def labelme(folder: Path) -> Path:
    """Every type of shape, on two images."""
    folder.mkdir(parents=True, exist_ok=True)
    first = [
        labelme_shape("polygon", "cat", [[2.5, 2], [12, 2.25], [12, 9], [3, 11]]),
        labelme_shape("rectangle", "dog", [[30, 20], [20, 5]]),
        labelme_shape("line", "cat", [[1, 25], [9, 25]]),
        labelme_shape("linestrip", "dog", [[21, 25], [25, 26], [33, 22]]),
        labelme_shape("point", "dog", [[24.5, 9.5]]),
    ]
    second = [
        labelme_shape("mask", "cat", [[5, 6], [13, 13]], mask=png_text(blob().astype(np.uint8) * 255)),
        labelme_shape("circle", "bird", [[30, 10], [30, 15]]),
        labelme_shape("oriented_rectangle", "dog", [[20, 18], [24, 22], [20, 26], [16, 22]]),
    ]
    (folder / "a.json").write_text(json.dumps(labelme_content("a.png", first, flags={"bird": True, "blurred": True})))
    (folder / "b.json").write_text(json.dumps(labelme_content("b.png", second)))
    return folder


CVAT = """<?xml version="1.0" encoding="utf-8"?>
<annotations>
  <version>1.1</version>
  <meta><task><labels>
    <label><name>cat</name><attributes></attributes></label>
    <label><name>dog</name></label>
    <label><name>tail</name><parent>dog</parent></label>
    <label><name>traffic light</name></label>
  </labels></task></meta>
  <image id="0" name="a.png" width="40" height="30">
    <polygon label="cat" points="2.50,2.00;12.00,2.25;12.00,9.00;3.00,11.00" occluded="0" z_order="1"></polygon>
    <box label="dog" xtl="20.00" ytl="5.00" xbr="30.00" ybr="20.00" occluded="0" z_order="0"></box>
    <polyline label="dog" points="21,25;25,26;33,22" z_order="0"><attribute name="width">3.0</attribute></polyline>
    <polyline label="cat" points="1,25;9,25" z_order="0"></polyline>
    <points label="dog" points="24.5,9.5;26.0,11.0" z_order="0"></points>
    <tag label="traffic light" source="manual"></tag>
  </image>
  <image id="1" name="b.png" width="40" height="30">
    <mask label="cat" rle="RLE" left="5" top="6" width="9" height="8" z_order="0"></mask>
    <ellipse label="dog" cx="30.0" cy="10.0" rx="6.0" ry="3.0" rotation="90.0" z_order="0"></ellipse>
    <box label="dog" xtl="16.00" ytl="20.00" xbr="24.00" ybr="24.00" rotation="90.0" z_order="0"></box>
  </image>
</annotations>
"""


def cvat(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    counts, last = [0], False
    for pixel in blob().ravel().tolist():  # along the rows, pixels outside first
        if pixel != last:
            counts.append(0)
            last = pixel
        counts[-1] += 1
    (folder / "annotations.xml").write_text(CVAT.replace("RLE", ", ".join(map(str, counts))))
    return folder / "annotations.xml"


def coco_content() -> dict[str, Any]:
    whole = np.zeros((HEIGHT, WIDTH), bool)
    whole[6:14, 5:14] = blob()
    counts, last = [0], False
    for pixel in whole.ravel(order="F").tolist():
        if pixel != last:
            counts.append(0)
            last = pixel
        counts[-1] += 1
    images = [{"id": 7, "file_name": "a.png", "width": WIDTH, "height": HEIGHT}]
    images.append({"id": 9, "file_name": "b.png", "width": WIDTH, "height": HEIGHT})
    polygon = [[2.5, 2.0, 12.0, 2.25, 12.0, 9.0, 3.0, 11.0]]
    parts = [[20.0, 20.0, 25.0, 20.0, 25.0, 25.0], [30.0, 20.0, 35.0, 20.0, 35.0, 25.0]]
    found = [
        {"id": 1, "image_id": 7, "category_id": 3, "segmentation": polygon, "bbox": [2.5, 2.0, 9.5, 9.0], "iscrowd": 0},
        {"id": 2, "image_id": 7, "category_id": 5, "segmentation": parts, "bbox": [20, 20, 15, 5], "iscrowd": 0},
        {"id": 3, "image_id": 7, "category_id": 5, "segmentation": [], "bbox": [20.0, 2.0, 10.0, 12.5], "iscrowd": 0},
        {"id": 4, "image_id": 9, "category_id": 3, "bbox": [5, 6, 9, 8], "iscrowd": 1}
        | {"segmentation": {"size": [HEIGHT, WIDTH], "counts": counts}},
    ]
    names = [{"id": 3, "name": "cat"}, {"id": 5, "name": "dog"}]
    return {"images": images, "annotations": found, "categories": names}


def coco(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "instances.json").write_text(json.dumps(coco_content()))
    return folder / "instances.json"


def label_image(classes: int = 3) -> np.ndarray:
    """Ids 0, 1, 2, and a border of 255."""
    label = np.zeros((HEIGHT, WIDTH), np.uint8)
    label[5:15, 5:20] = 1
    label[10:25, 22:35] = classes - 1
    label[15, 5:20] = 255
    return label


def panoptic(folder: Path) -> Path:
    (folder / "panoptic_val").mkdir(parents=True, exist_ok=True)
    images, found = [], []
    for number, name in enumerate(("a", "b")):
        ids = np.zeros((HEIGHT, WIDTH), np.int64)
        ids[5:15, 5:20], ids[10:25, 22:35] = 70_000 + number, 300
        colour = np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=2).astype(np.uint8)
        Image.fromarray(colour).save(folder / "panoptic_val" / f"{name}.png")
        images.append({"id": number, "file_name": f"{name}.png", "width": WIDTH, "height": HEIGHT})
        segments = [{"id": 70_000 + number, "category_id": 1}, {"id": 300, "category_id": 8}]
        found.append({"image_id": number, "file_name": f"{name}.png", "segments_info": segments})
    names = [{"id": 1, "name": "cow", "isthing": 1}, {"id": 8, "name": "grass", "isthing": 0}]
    data = {"images": images, "annotations": found, "categories": names}
    (folder / "panoptic_val.json").write_text(json.dumps(data))
    return folder / "panoptic_val.json"


def voc(folder: Path) -> Path:
    (folder / "SegmentationClass").mkdir(parents=True, exist_ok=True)
    for name in ("a", "b"):
        image = Image.fromarray(label_image())
        image.putpalette([value for entry in range(256) for value in (entry, 255 - entry, 7)])  # any palette will do
        image.save(folder / "SegmentationClass" / f"{name}.png")
    (folder / "class_names.txt").write_text("background\ncat\nwild dog\n")
    return folder


def yolo(folder: Path) -> Path:
    (folder / "labels" / "train").mkdir(parents=True, exist_ok=True)
    (folder / "data.yaml").write_text("path: .\ntrain: images/train\nnames:\n  0: cat\n  1: wild dog\n")
    (folder / "labels" / "train" / "a.txt").write_text(
        "0 0.1 0.1 0.3 0.1 0.3 0.4\n1 0.5 0.5 0.75 0.5 0.75 1.0 0.5 1.0\n"
    )
    (folder / "labels" / "train" / "b.txt").write_text("1 0.5 0.5 0.25 0.2\n")
    return folder


def cityscapes(folder: Path) -> Path:
    (folder / "gtFine").mkdir(parents=True, exist_ok=True)
    for name in ("a", "b"):
        Image.fromarray(label_image()).save(folder / "gtFine" / f"{name}_gtFine_labelIds.png")
    (folder / "names.txt").write_text("0 road\n1 sidewalk\n2 traffic light\n")
    return folder


SOURCES = {"labelme": labelme, "cvat": cvat, "coco": coco, "coco_panoptic": panoptic} | {
    "voc": voc,
    "yolo": yolo,
    "cityscapes": cityscapes,
}
