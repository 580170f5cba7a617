"""Our files as other tools read them: pycocotools, labelme; and details of each format."""

import base64
import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from format_inputs import (
    HEIGHT,
    WIDTH,
    blob,
    coco,
    cvat,
    labelme,
    labelme_content,
    labelme_shape,
    photographs,
    png_text,
    voc,
    yolo,
)
from PIL import Image

from spml.data.formats import export_annotations, import_annotations
from spml.data.formats.folder import read_folder
from spml.data.raster import paint
from spml.data.xml import read_xml


def folder_of(tmp_path: Path, source: Path, name: str = "folder") -> Path:
    folder = photographs(tmp_path / name)
    import_annotations(source, folder)
    return folder


def one(tmp_path: Path, *shapes: dict, **more: object) -> Path:
    """A folder with one labelme file's shapes."""
    (tmp_path / "json").mkdir()
    (tmp_path / "json" / "a.json").write_text(json.dumps(labelme_content("a.png", list(shapes), **more)))
    return folder_of(tmp_path, tmp_path / "json" / "a.json")


def strokes(folder: Path, name: str = "a") -> list[dict]:
    return json.loads((folder / "strokes" / f"{name}.json").read_text())["strokes"]


def label(path: Path) -> np.ndarray:
    return np.array(Image.open(path))


def test_pycocotools_reads_what_we_write(tmp_path: Path) -> None:
    coco_file = pytest.importorskip("pycocotools.coco")
    folder = folder_of(tmp_path, coco(tmp_path / "source"))
    export_annotations(folder, tmp_path / "out", "coco")
    data = coco_file.COCO(str(tmp_path / "out" / "annotations.json"))
    assert [entry["name"] for entry in data.loadCats(data.getCatIds())] == ["background", "cat", "dog"]
    found = data.loadAnns(data.getAnnIds(imgIds=[2]))
    assert len(found) == 1 and found[0]["area"] == blob().sum() and found[0]["bbox"] == [5, 6, 9, 8]
    whole = np.zeros((HEIGHT, WIDTH), bool)
    whole[6:14, 5:14] = blob()
    np.testing.assert_array_equal(data.annToMask(found[0]).astype(bool), whole)
    np.testing.assert_array_equal(label(folder / "labels/b.png") == 1, whole)
    for entry in data.loadAnns(data.getAnnIds(imgIds=[1])):
        if entry["segmentation"]:
            mask, border = data.annToMask(entry), sum(entry["bbox"][2:]) * 2
            assert abs(int(mask.sum()) - entry["area"]) <= 0.6 * border
    assert sorted(len(entry["segmentation"]) for entry in data.loadAnns(data.getAnnIds(imgIds=[1]))) == [0, 1, 2]


def test_compressed_run_lengths_of_pycocotools(tmp_path: Path) -> None:
    mask_tools = pytest.importorskip("pycocotools.mask")
    path = coco(tmp_path / "source")
    data = json.loads(path.read_text())
    plain = folder_of(tmp_path, path, "plain")
    held = mask_tools.frPyObjects(data["annotations"][3]["segmentation"], HEIGHT, WIDTH)
    data["annotations"][3]["segmentation"] = {"size": held["size"], "counts": held["counts"].decode()}
    path.write_text(json.dumps(data))
    packed = folder_of(tmp_path, path, "packed")
    np.testing.assert_array_equal(label(plain / "labels/b.png"), label(packed / "labels/b.png"))


def test_labelme_files_keep_its_rules(tmp_path: Path) -> None:
    """What labelme's reader demands, where it is not installed to say so itself."""
    folder = folder_of(tmp_path, labelme(tmp_path / "source"))
    export_annotations(folder, tmp_path / "out", "labelme")
    counts = {"point": 1, "line": 2, "rectangle": 2, "mask": 2}
    for name in "ab":
        data = json.loads((tmp_path / "out" / f"{name}.json").read_text())
        assert {"version", "flags", "shapes", "imagePath", "imageData", "imageHeight", "imageWidth"} == set(data)
        assert data["imagePath"] == f"{name}.png" and data["imageData"] is None
        assert (data["imageHeight"], data["imageWidth"]) == (HEIGHT, WIDTH)
        assert all(isinstance(up, bool) for up in data["flags"].values())
        for shape in data["shapes"]:
            assert isinstance(shape["label"], str) and isinstance(shape["flags"], dict)
            assert all(isinstance(point, list) and len(point) == 2 for point in shape["points"])
            assert len(shape["points"]) == counts.get(shape["shape_type"], len(shape["points"])) > 0
            if shape["shape_type"] == "mask":
                (x0, y0), (x1, y1) = shape["points"]
                mask = np.array(Image.open(io.BytesIO(base64.b64decode(shape["mask"]))))
                assert mask.shape == (y1 - y0 + 1, x1 - x0 + 1) and set(np.unique(mask)) <= {0, 255}


def labelme_module() -> object:
    """labelme's own file reader, where it is installed (it needs Qt, so most machines lack it)."""
    pytest.importorskip("labelme._label_file")
    return sys.modules["labelme._label_file"]


def test_labelme_reads_what_we_write(tmp_path: Path) -> None:
    tool = labelme_module()
    from labelme.utils.shape import shapes_to_label

    folder = folder_of(tmp_path, labelme(tmp_path / "source"))
    export_annotations(folder, tmp_path / "out", "labelme", images=True)
    names = {"background": 0, "cat": 1, "dog": 2, "bird": 3}
    for name in "ab":
        ours = tool.read_label_file(str(tmp_path / "out" / f"{name}.json"))  # type: ignore[attr-defined]
        theirs = tool.read_label_file(str(_with_image(tmp_path, name)))  # type: ignore[attr-defined]
        assert [(s["label"], s["shape_type"]) for s in ours.shapes] == [
            (s["label"], {"circle": "polygon", "oriented_rectangle": "rectangle"}.get(s["shape_type"], s["shape_type"]))
            for s in theirs.shapes
        ]
        full = [s for s in theirs.shapes if s["shape_type"] in ("mask", "polygon", "circle")]
        expected = shapes_to_label((HEIGHT, WIDTH, 3), full, names)[0]
        drawn = shapes_to_label(
            (HEIGHT, WIDTH, 3), [s for s in ours.shapes if s["shape_type"] in ("mask", "polygon")], names
        )
        np.testing.assert_array_equal(drawn[0][expected == 1] == 1, True)
        assert (drawn[0] != expected).sum() <= 40  # circles as polygons: along the rim
        found = next(one for one in read_folder(folder, list(names)) if one.stem == name)
        polygons = [shape for shape in found.shapes if shape.kind == "polygon"]
        label_of = paint(polygons, names, (HEIGHT, WIDTH), onto=found.mask)
        label_of[label_of == 254] = 0
        assert (label_of != expected).sum() <= 40, "labelme's polygons cover their rim"


def _with_image(tmp_path: Path, name: str) -> Path:
    photographs(tmp_path / "source")
    return tmp_path / "source" / f"{name}.json"


def test_labelme_corners_circle_and_widths(tmp_path: Path) -> None:
    folder = one(
        tmp_path,
        labelme_shape("rectangle", "cat", [[9, 2], [3, 20]]),
        labelme_shape("circle", "cat", [[20, 15], [20, 20]]),
        labelme_shape("line", "dog", [[1, 1], [30, 1]], width=3.5),
        labelme_shape("linestrip", "dog", [[1, 28]]),
    )
    box, circle, line, dot = strokes(folder)
    assert box["points"] == [[3, 2], [9, 20]] and line["width"] == 3.5 and dot["width"] == 10
    assert [circle["kind"], circle["filled"], dot["kind"]] == ["polygon", True, "brush"]
    x, y = np.arange(WIDTH) + 0.5, np.arange(HEIGHT)[:, None] + 0.5
    disc = (x - 20) ** 2 + (y - 15) ** 2 <= 25
    found = next(iter(read_folder(folder, ("background", "cat", "dog"))))
    ours = paint(found.shapes[1:2], {"cat": 1}, (HEIGHT, WIDTH), rim=False) == 1
    assert (ours != disc).sum() <= 4


def test_labelme_mask_lies_in_its_box_the_second_point_inside(tmp_path: Path) -> None:
    mask = png_text(blob().astype(np.uint8))  # 0 and 1 as well as 0 and 255
    folder = one(tmp_path, labelme_shape("mask", "cat", [[5, 6], [13, 13]], mask=mask))
    whole = np.zeros((HEIGHT, WIDTH), bool)
    whole[6:14, 5:14] = blob()
    np.testing.assert_array_equal(label(folder / "labels/a.png"), np.where(whole, 1, 254))
    assert not (folder / "weak/a.png").exists() and not (folder / "strokes/a.json").exists()


def test_masks_and_polygons_cover_in_their_order(tmp_path: Path) -> None:
    box = labelme_shape("polygon", "dog", [[4, 5], [12, 5], [12, 12], [4, 12]])
    cover = labelme_shape("mask", "cat", [[5, 6], [13, 13]], mask=png_text(np.full((8, 9), 255, np.uint8)))
    (tmp_path / "above").mkdir()
    (tmp_path / "below").mkdir()
    above, below = one(tmp_path / "above", cover, box), one(tmp_path / "below", box, cover)
    first, second = (label(folder / "labels/a.png") for folder in (above, below))
    names = [(folder / "classes.txt").read_text().split() for folder in (above, below)]
    assert names[0][first[8, 8]] == "dog" and names[1][second[8, 8]] == "cat" and names[1][second[5, 4]] == "dog"
    assert [stroke["kind"] for stroke in strokes(above)] == ["polygon"]
    assert not (below / "strokes/a.json").exists(), "what a later mask cuts is a label"


def test_void_and_background_of_labelme(tmp_path: Path) -> None:
    folder = one(
        tmp_path,
        labelme_shape("polygon", "__ignore__", [[0, 0], [10, 0], [10, 10], [0, 10]]),
        labelme_shape("polygon", "_background_", [[20, 0], [30, 0], [30, 10], [20, 10]]),
        labelme_shape("point", "__ignore__", [[3, 3]]),
        labelme_shape("point", "cat", [[3, 25]]),
    )
    found = label(folder / "labels/a.png")
    assert (found[:10, :10] == 255).all() and (found[:10, 20:30] == 0).all() and (found == 254).any()
    assert (folder / "classes.txt").read_text() == "background\ncat\n"
    assert [stroke["kind"] for stroke in strokes(folder)] == ["polygon", "point"]


def test_embedded_images_and_exif(tmp_path: Path) -> None:
    """Coordinates are those of the turned image; an image that only the JSON file has is written out."""
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    file = io.BytesIO()
    Image.fromarray(np.zeros((WIDTH, HEIGHT, 3), np.uint8)).save(file, "JPEG", exif=exif)
    text = base64.b64encode(file.getvalue()).decode()
    shape = labelme_shape("point", "cat", [[39.5, 0.5]])
    data = labelme_content("C:\\photos\\my cat.jpg", [shape], imageData=text)
    (tmp_path / "a.json").write_text(json.dumps(data))
    import_annotations(tmp_path / "a.json", tmp_path / "folder")
    weak = label(tmp_path / "folder" / "weak" / "my_cat.png")
    assert weak.shape == (HEIGHT, WIDTH) and weak[0, 39] == 1
    assert (tmp_path / "folder" / "my_cat.jpg").read_bytes() == file.getvalue()
    assert (tmp_path / "folder" / "lists" / "point.txt").read_text() == "my_cat.jpg weak/my_cat.png\n"


def test_cvat_order_widths_turned_boxes_and_tags(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, cvat(tmp_path / "source"))
    found = strokes(folder)
    assert [stroke["kind"] for stroke in found] == ["box", "brush", "line", "point", "point", "polygon"]  # by z_order
    assert [stroke["width"] for stroke in found] == [1, 3, 10, 10, 10, 1]
    assert json.loads((folder / "strokes/a.json").read_text())["tags"] == ["traffic light"]
    assert (folder / "classes.txt").read_text() == "background\ncat\ndog\ntraffic light\n"
    assert (folder / "tags.txt").read_text() == "a 1 2 3\nb 1 2\n"
    turned = strokes(folder, "b")[1]["points"]
    np.testing.assert_allclose(turned, [[18, 18], [22, 26]])
    whole = np.zeros((HEIGHT, WIDTH), bool)
    whole[6:14, 5:14] = blob()
    np.testing.assert_array_equal(label(folder / "labels/b.png") == 1, whole)
    export_annotations(folder, tmp_path / "out", "cvat")
    root = read_xml(tmp_path / "out" / "annotations.xml")
    assert [image.get("name") for image in root.findall("image")] == ["a.png", "b.png"]
    mask = root.findall("image")[1].find("mask")
    assert mask is not None and [mask.get(key) for key in ("left", "top", "width", "height")] == ["5", "6", "9", "8"]


def test_any_palette_keeps_ids_and_names_come_from_a_file(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, voc(tmp_path / "source"))
    assert sorted(set(label(folder / "labels/a.png").ravel().tolist())) == [0, 1, 2, 255]
    assert (folder / "classes.txt").read_text() == "background\ncat\nwild dog\n"
    export_annotations(folder, tmp_path / "out", "voc")
    written = Image.open(tmp_path / "out" / "SegmentationClass" / "a.png")
    assert written.mode == "P" and written.getpalette()[3:6] == [128, 0, 0]  # type: ignore[index]


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        (
            "labelmap.txt",
            "# label:color_rgb:parts:actions\nroad:1,2,3::\nsky way:4,5,6::\ncar:::\n",
            "road,sky way,car",
        ),
        ("labels.txt", "__ignore__\n_background_\ncat\n", "_background_,cat,class 2"),
        ("names.txt", "0 road\n2: sky way\n", "road,class 1,sky way"),
        ("classes.txt", "rue\nпёс\n2 roues\n", "rue,пёс,2 roues"),
    ],
)
def test_tables_of_names(tmp_path: Path, name: str, text: str, expected: str) -> None:
    source = voc(tmp_path / "source")
    (source / "class_names.txt").unlink()
    (source / name).write_text(text, encoding="utf-8")
    if expected.endswith("class 2"):
        Image.fromarray(np.ones((HEIGHT, WIDTH), np.uint8)).save(source / "SegmentationClass" / "a.png")
        Image.fromarray(np.ones((HEIGHT, WIDTH), np.uint8)).save(source / "SegmentationClass" / "b.png")
        expected = "_background_,cat"
    done = import_annotations(source, photographs(tmp_path / "folder"), "voc")
    assert ",".join(done.classes) == expected


def test_cityscapes_own_ids(tmp_path: Path) -> None:
    source = tmp_path / "cs"
    for folder, ending in (("gtFine", "_gtFine_labelIds"), ("leftImg8bit", "_leftImg8bit")):
        (source / folder / "val" / "ulm").mkdir(parents=True)
        ids = np.full((HEIGHT, WIDTH), 7, np.uint8)
        ids[:5], ids[5:10] = 3, 26
        Image.fromarray(ids).save(source / folder / "val" / "ulm" / f"ulm_0_1{ending}.png")
    Image.fromarray(ids).save(source / "gtFine" / "val" / "ulm" / "ulm_0_1_gtFine_instanceIds.png")
    done = import_annotations(source, tmp_path / "folder")
    found = label(tmp_path / "folder" / "labels" / "ulm_0_1_leftImg8bit.png")
    assert done.format == "cityscapes" and done.classes[26] == "car" and len(done.classes) == 34
    assert [found[0, 0], found[6, 0], found[20, 0]] == [255, 26, 7]


def test_yolo_rows(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, yolo(tmp_path / "source"))
    assert [stroke["kind"] for stroke in strokes(folder)] == ["polygon", "polygon"]
    assert strokes(folder)[0]["points"] == [[4, 3], [12, 3], [12, 12]]
    assert strokes(folder, "b")[0]["kind"] == "box" and strokes(folder, "b")[0]["points"] == [[15, 12], [25, 18]]
    export_annotations(folder, tmp_path / "out", "yolo")
    assert yaml.safe_load((tmp_path / "out" / "data.yaml").read_text())["names"][2] == "wild dog"
    # labels with a hole come back pixel by pixel
    mask = np.full((HEIGHT, WIDTH), 254, np.uint8)
    mask[6:14, 5:14] = np.where(blob(), 1, 254)
    (folder / "labels").mkdir()
    Image.fromarray(mask).save(folder / "labels" / "a.png")
    (folder / "strokes" / "a.json").unlink()
    export_annotations(folder, tmp_path / "again", "yolo")
    back = photographs(tmp_path / "back")
    import_annotations(tmp_path / "again", back)
    found = next(iter(read_folder(back, ("background", "cat", "wild dog"))))
    np.testing.assert_array_equal(paint(found.shapes, {"cat": 1}, (HEIGHT, WIDTH), rim=False) == 1, mask == 1)
