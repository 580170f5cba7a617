"""Bad input: one line that names file and place, nothing written; what is there is not replaced silently."""

import copy
import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from format_inputs import (
    CVAT,
    HEIGHT,
    SOURCES,
    WIDTH,
    cityscapes,
    coco_content,
    content,
    cvat,
    labelme,
    labelme_content,
    labelme_shape,
    panoptic,
    photographs,
    png_text,
    voc,
    yolo,
)
from PIL import Image

from spml.cli.main import main
from spml.data.formats import detect, export_annotations, import_annotations
from spml.data.formats.cut import cut, without_erasers
from spml.data.formats.folder import read_folder
from spml.data.raster import Shape, paint
from spml.data.xml import read_xml
from spml.errors import UserError

POLYGON = [[1, 1], [9, 1], [9, 9]]


def refused(source: Path, folder: Path, message: str, **options: Any) -> None:
    """The import stops with one line, and nothing is left in the folder."""
    before = sorted(folder.rglob("*"))
    with pytest.raises(UserError, match=message) as error:
        import_annotations(source, folder, **options)
    assert "\n" not in str(error.value) and len(str(error.value)) < 700
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shapes": [{}]}, r"a\.json shape 1: expected the name of a class"),
        ({"shapes": [labelme_shape("spline", "cat", POLYGON)]}, "shape 1: expected shape_type to be one of .*'spline'"),
        ({"shapes": [labelme_shape("point", "cat", [[1, 1]]), 7]}, "shape 2: expected an object, got 7"),
        ({"shapes": [labelme_shape("polygon", "cat", POLYGON[:2])]}, "shape 1: expected at least 3 points .* got 2"),
        ({"shapes": [labelme_shape("line", "cat", POLYGON)]}, "shape 1: expected 2 points of a line, got 3"),
        ({"shapes": [labelme_shape("point", "cat", [[float("nan"), 1]])]}, "expected points .* finite numbers"),
        ({"shapes": [labelme_shape("point", "cat", [["1", 1]])]}, "expected points .* finite numbers"),
        ({"shapes": [labelme_shape("point", "a\0b", [[1, 1]])]}, "1 to 100 printable characters"),
        ({"shapes": [labelme_shape("mask", "cat", [[1, 1], [3, 3]])]}, "shape 1 mask: expected"),
        ({"shapes": [labelme_shape("mask", "cat", [[1, 1], [3, 3]], mask="AAAA")]}, "shape 1 mask: expected a PNG"),
        (
            {"shapes": [labelme_shape("mask", "cat", [[1, 1], [3, 3]], mask=png_text(np.ones((3, 2), np.uint8)))]},
            "expected a mask of 3 x 3 pixels, as its points say, got 2 x 3",
        ),
        ({"imageWidth": 41}, r"a\.json: is about an image of 41 x 30 pixels, but .*a\.png has 40 x 30"),
        ({"imageWidth": HEIGHT, "imageHeight": WIDTH}, "turned as its EXIF"),
        ({"imagePath": "none.png"}, r"a\.json: no image 'none\.png' .*1 of 1 images are missing"),
        ({"imagePath": "../../etc/passwd"}, "no image"),
        ({"imagePath": "gone.png", "imageData": "????"}, "expected an image"),
        ({"imagePath": 3}, "expected labelme's list `shapes` and text `imagePath`"),
        ({"shapes": None}, "expected labelme's list `shapes`"),
        ({"imageWidth": "wide"}, "imageWidth"),
    ],
)
def test_labelme(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    folder = photographs(tmp_path / "folder")
    path = tmp_path / "source" / "a.json"
    path.parent.mkdir()
    path.write_text(json.dumps({**labelme_content("a.png", [labelme_shape("point", "cat", [[1, 1]])]), **change}))
    refused(path, folder, message)


@pytest.mark.parametrize("text", ["{", "[" * 100_000, "", "\x00", '{"shapes": [}'])
def test_broken_json(tmp_path: Path, text: str) -> None:
    folder = photographs(tmp_path / "folder")
    (tmp_path / "a.json").write_text(text)
    for name in ("labelme", "coco", "coco_panoptic"):
        refused(tmp_path / "a.json", folder, r"a\.json", format=name)
    refused(tmp_path / "a.json", folder, "looks like none of the formats")


BOMB = (
    '<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;"><!ENTITY c "&b;&b;&b;&b;">]><annotations>&c;</annotations>'
)
OUTSIDE = '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><annotations>&a;</annotations>'


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (CVAT, BOMB, "without a document type"),
        (CVAT, OUTSIDE, "without a document type"),
        (CVAT, "<annotations><image>", r"cannot read .*annotations\.xml as XML"),
        (CVAT, "<annotations/>", "expected <image> elements, found none"),
        (CVAT, "<annotations><track/></annotations>", "tracks of a video"),
        (CVAT, "<labels/>", "expected <annotations> of CVAT"),
        ('xtl="20.00"', 'xtl="left"', "image 1 shape 2 <box>: expected a number as xtl, got 'left'"),
        ('xtl="20.00"', "", "expected a number as xtl, got None"),
        ("2.50,2.00;12.00,2.25;12.00,9.00;3.00,11.00", "1,1;2", "expected x and y in turn"),
        ("2.50,2.00;12.00,2.25;12.00,9.00;3.00,11.00", "1,1;a,b", 'expected points "x,y;x,y"'),
        ("2.50,2.00;12.00,2.25;12.00,9.00;3.00,11.00", "1,1;2,2", "expected at least 3 points"),
        ("24.5,9.5;26.0,11.0", "", "expected at least 1 points"),
        ('polyline label="cat"', 'cuboid label="cat"', "expected one of"),
        ("</polyline>\n    <points", "</cuboid>\n    <points", "as XML"),
        ('width="9" height="8"', 'width="9" height="7"', "expected run lengths of 9 x 7"),
        ('width="9" height="8"', 'width="900000" height="900000"', "expected a mask inside 40 x 30"),
        ('left="5"', 'left="-5"', "expected a mask inside 40 x 30"),
        ('rle="', 'rle="-1, ', "expected run lengths as rle"),
        ('name="b.png"', 'name="none.png"', r"image 2: no image 'none\.png'"),
        ('name="b.png"', 'name="a.png"', r"the image .*a\.png has annotations in"),
        ('label="cat" points="1,25', 'points="1,25', "expected the name of a class"),
        ('width="40" height="30">\n    <mask', 'width="41" height="30">\n    <mask', "is about an image of 41 x 30"),
    ],
)
def test_cvat(tmp_path: Path, old: str, new: str, message: str) -> None:
    folder, path = photographs(tmp_path / "folder"), cvat(tmp_path / "source")
    text = path.read_text().replace(old, new, 1) if old != CVAT else new
    if "cuboid" in new and "polyline" in old:
        text = text.replace("</polyline>\n    <points", "</cuboid>\n    <points")
    assert text != path.read_text()
    path.write_text(text)
    refused(path, folder, message, format="cvat")


def coco_with(place: tuple, value: Any) -> dict[str, Any]:
    data = copy.deepcopy(coco_content())
    inner: Any = data
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    return data


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (("annotations", 0, "image_id"), 99, "annotation 1: expected .* image_id of an image"),
        (("annotations", 0, "category_id"), [3], "annotation 1: expected the category_id"),
        (("annotations", 0, "segmentation"), [[1, 2, 3, 4, 5]], "x and y in turn"),
        (("annotations", 0, "segmentation"), [[1, 2, 3, 4]], "at least 3 points"),
        (("annotations", 0, "segmentation"), [[1, 2, 3, 4, 5, "x"]], "finite numbers"),
        (("annotations", 0, "segmentation"), "x", "expected polygons"),
        (("annotations", 2, "bbox"), [1, 2, 3], "annotation 3: expected a segmentation or bbox"),
        (
            ("annotations", 3, "segmentation", "size"),
            [10**6, 10**6],
            r"annotation 4: expected run lengths of size \[30, 40\]",
        ),
        (("annotations", 3, "segmentation", "counts"), [10**12], "expected run lengths of 40 x 30"),
        (("annotations", 3, "segmentation", "counts"), "~" * 20, "compressed run lengths"),
        (("annotations", 3, "segmentation", "counts"), "0" * 10_000, "longer than those of any mask"),
        (("annotations", 3, "segmentation", "counts"), {}, "expected run lengths as counts"),
        (("annotations", 0), 3, "annotation 1: expected an object"),
        (("categories",), [], "expected a list `categories`"),
        (("categories", 1, "name"), " ", "category 2: expected the name of a class"),
        (("categories", 0), None, "category 1: expected an object with id and name"),
        (("images", 0, "file_name"), 5, "image 1: expected an object with id and file_name"),
        (("images", 1, "id"), 7, "image 2: the id 7 stands twice"),
        (("images", 1, "width"), "x", "expected width and height in pixels"),
        (("images", 1, "file_name"), "a.png", "has annotations in"),
        (("images", 1, "file_name"), "../secret.png", "no image"),
    ],
)
def test_coco(tmp_path: Path, place: tuple, value: Any, message: str) -> None:
    folder = photographs(tmp_path / "folder")
    photographs(tmp_path, ("secret.png",))
    path = tmp_path / "source" / "x.json"
    path.parent.mkdir()
    path.write_text(json.dumps(coco_with(place, value)))
    refused(path, folder, message, format="coco")


def test_panoptic(tmp_path: Path) -> None:
    folder, path = photographs(tmp_path / "folder"), panoptic(tmp_path / "source")
    data = json.loads(path.read_text())
    data["annotations"][1]["segments_info"].pop()
    path.write_text(json.dumps(data))
    refused(path, folder, r"b\.png: the segment 300 is not in segments_info")
    data["annotations"][1]["segments_info"] = [{"id": 300}]
    path.write_text(json.dumps(data))
    refused(path, folder, "annotation 2: expected segments_info with id")
    path = panoptic(tmp_path / "source")
    (path.parent / "panoptic_val" / "b.png").write_bytes(b"no")
    refused(path, folder, r"cannot read .*b\.png")
    Image.fromarray(np.zeros((HEIGHT, WIDTH), np.uint8)).save(path.parent / "panoptic_val" / "b.png")
    refused(path, folder, "expected a colour PNG of 40 x 30")
    (path.parent / "panoptic_val" / "b.png").unlink()
    refused(path, folder, r"no file b\.png in")


def test_label_images(tmp_path: Path) -> None:
    folder, source = photographs(tmp_path / "folder"), voc(tmp_path / "source")
    masks = source / "SegmentationClass"
    (source / "class_names.txt").write_text("background\ncat\n")
    refused(source, folder, r"a\.png: holds the ids \[2\], but there are 2 class names")
    (source / "class_names.txt").write_text("cat\ncat\n")
    refused(source, folder, "class_names.txt: the class name 'cat' stands twice")
    voc(source)
    Image.fromarray(np.zeros((3, 3), np.uint8)).save(masks / "b.png")
    refused(source, folder, r"b\.png: is about an image of 3 x 3 pixels")
    (masks / "b.png").write_bytes(b"no picture")
    refused(source, folder, r"b\.png")
    (masks / "b.png").rename(masks / "c.png")
    refused(source, folder, r"c\.png: no image 'c' .*1 of 2 images are missing")
    shutil.rmtree(masks)
    refused(source, folder, "expected VOC's label images", format="voc")
    refused(tmp_path / "folder", folder, "looks like none")
    source = cityscapes(tmp_path / "cs")
    (source / "names.txt").write_text("0 road\n0 wall\n")
    refused(source, folder, "the id 0 stands twice")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("labels/train/a.txt", "2 0.1 0.1 0.2 0.2 0.3 0.3", r"a\.txt line 1: expected a class 0 to 1, got '2'"),
        ("labels/train/a.txt", "\ncat 0.1 0.1 0.2 0.2 0.3 0.3", "line 2: expected a class"),
        ("labels/train/a.txt", "0 0.1 0.1 0.2", "at least 3 points"),
        ("labels/train/a.txt", "0 0.1 0.1 0.2 0.2 0.3 0.3 0.4", "x and y in turn"),
        ("labels/train/a.txt", "0 10 10 20 20 30 30", "expected parts of the image's width and height"),
        ("labels/train/a.txt", "0 nan 0.1 0.2 0.2 0.3 0.3", "expected parts"),
        ("labels/train/a.txt", "0 x 0.1 0.2 0.2 0.3 0.3", "expected numbers"),
        ("data.yaml", "names: [", "cannot read .* as YAML"),
        ("data.yaml", "names: {1: cat}", "expected names 0"),
        ("data.yaml", "names: []", "expected `names`"),
        ("data.yaml", "names: [cat, cat]", "stands twice"),
        ("data.yaml", "names: [cat, [dog]]", "expected the name of a class"),
        ("labels/train/c.txt", "0 0.5 0.5 0.1 0.1", r"c\.txt: no image 'train/c'"),
    ],
)
def test_yolo(tmp_path: Path, name: str, text: str, message: str) -> None:
    folder, source = photographs(tmp_path / "folder"), yolo(tmp_path / "source")
    (source / name).write_text(text)
    refused(source, folder, message, format="yolo")


def test_two_images_with_one_stem(tmp_path: Path) -> None:
    source = tmp_path / "source"
    photographs(source, ("x/a.png", "y/a.png"))
    for place in "xy":
        shape = labelme_shape("point", "cat", [[1, 1]])
        (source / place / "a.json").write_text(json.dumps(labelme_content("a.png", [shape])))
    refused(source, photographs(tmp_path / "folder", ("other.png",)), "the images .* are both called 'a'")
    folder = photographs(tmp_path / "second", ("a.png", "a.bmp", "b.png"))
    refused(labelme(tmp_path / "plain"), folder, "differ in the suffix alone")
    folder = photographs(tmp_path / "third", ("p/a.png", "q/a.png", "b.png"))
    refused(labelme(tmp_path / "plain"), folder, "the name 'a.png' fits 2 images")


def test_names_of_classes(tmp_path: Path) -> None:
    """Spaces and other scripts are fine, and survive every way."""
    shapes = [
        labelme_shape("point", name, [[3 * i + 1, 1]]) for i, name in enumerate(("traffic  light", "пёс", "né\té"))
    ]
    source = tmp_path / "a.json"
    source.write_text(json.dumps(labelme_content("a.png", shapes)))
    folder = photographs(tmp_path / "folder")
    assert import_annotations(source, folder).classes == ("background", "traffic light", "пёс", "né é")
    for name in ("labelme", "cvat"):
        export_annotations(folder, tmp_path / name, name)
        again = photographs(tmp_path / f"{name} again")
        import_annotations(tmp_path / name, again)
        assert content(again) == content(folder)
    given = tmp_path / "classes.txt"
    given.write_text("пёс\ntraffic light\n")
    refused(source, photographs(tmp_path / "other"), "--classes: has no class 'né é'", classes=given)
    given.write_text("пёс\ntraffic light\nné é\n")
    assert import_annotations(source, tmp_path / "other", classes=given).classes[0] == "пёс"
    refused(source, folder, "holds other class names than --classes", classes=given)


def test_nothing_is_replaced_silently(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, source = photographs(tmp_path / "folder"), labelme(tmp_path / "source")
    import_annotations(source, folder)
    before = content(folder)
    import_annotations(source, folder)
    assert content(folder) == before
    changed = labelme_content("a.png", [labelme_shape("point", "horse", [[1, 1]])])
    (source / "a.json").write_text(json.dumps(changed))
    refused(source, folder, "--overwrite replaces them")
    assert content(folder) == before
    words = ["import", str(source), str(folder)]
    assert not main([*words, "--overwrite"])
    assert (folder / "classes.txt").read_text() == "background\ncat\ndog\nbird\nhorse\n"
    assert not (folder / "lists/scribble.txt").exists()
    assert set(json.loads((folder / "boxes.json").read_text())) == {"b"}
    (source / "b.json").write_text(json.dumps(labelme_content("b.png", [labelme_shape("point", "cat", [[1, 1]])])))
    import_annotations(source, folder, overwrite=True)
    assert not (folder / "labels" / "b.png").exists(), "what the folder had of the image is replaced"
    assert not (folder / "boxes.json").exists() and not (folder / "lists" / "mask.txt").exists()
    (folder / "boxes.json").write_text("[]")
    refused(source, folder, r"boxes\.json: expected an object of boxes by name")
    (folder / "boxes.json").unlink()
    (folder / "lists" / "point.txt").write_text("a.png mine.png\n")
    refused(source, folder, r"point\.txt: has another line for 'a\.png'")
    out = tmp_path / "out"
    export_annotations(folder, out, "labelme")
    (out / "a.json").write_text("mine")
    with pytest.raises(UserError, match="a.json are there already with other content"):
        export_annotations(folder, out, "labelme")
    assert (out / "a.json").read_text() == "mine" and len(list(out.iterdir())) == 2
    export_annotations(folder, out, "labelme", overwrite=True)
    assert (out / "a.json").read_text() != "mine"


def test_files_that_say_the_same_stay(tmp_path: Path) -> None:
    """The studio writes its own files of what was taken in: keys of classes, other ids, palette PNGs."""
    folder, source = photographs(tmp_path / "folder"), labelme(tmp_path / "source")
    import_annotations(source, folder)
    path = folder / "strokes" / "a.json"
    data = json.loads(path.read_text())
    names = ("background", "cat", "dog", "bird")
    data["classes"] = [{"key": f"k{place}", "id": place, "name": name} for place, name in enumerate(names)]
    for number, stroke in enumerate(data["strokes"]):
        stroke |= {"class": f"k{names.index(stroke['class'])}", "id": str(number)}
    data["tags"] = [f"k{names.index(tag)}" for tag in data["tags"]]
    path.write_text(json.dumps(data))
    image = Image.open(folder / "labels" / "b.png")
    image.putpalette([7] * 768)
    image.save(folder / "labels" / "b.png")
    before = (path.read_bytes(), (folder / "labels" / "b.png").read_bytes())
    import_annotations(source, folder)
    assert before == (path.read_bytes(), (folder / "labels" / "b.png").read_bytes())
    data["strokes"][0]["points"][0][0] += 1
    path.write_text(json.dumps(data))
    refused(source, folder, r"strokes/a\.json are there already with other content")


def test_a_second_source_adds(tmp_path: Path) -> None:
    folder = photographs(tmp_path / "folder", ("a.png", "b.png", "c.png"))
    import_annotations(labelme(tmp_path / "source"), folder)
    (tmp_path / "c.json").write_text(json.dumps(labelme_content("c.png", [labelme_shape("point", "cow", [[1, 1]])])))
    import_annotations(tmp_path / "c.json", folder)
    assert (folder / "classes.txt").read_text() == "background\ncat\ndog\nbird\ncow\n"
    assert (folder / "lists/point.txt").read_text() == "a.png weak/a.png\nc.png weak/c.png\n"
    assert (folder / "tags.txt").read_text().splitlines()[-1] == "c 4"
    assert set(json.loads((folder / "boxes.json").read_text())) == {"a", "b"}


def test_what_reaches_out_is_cut_counted_and_said(tmp_path: Path) -> None:
    shapes = [
        labelme_shape("polygon", "cat", [[-10, 5], [20, 5], [20, 60], [-10, 60]]),
        labelme_shape("rectangle", "cat", [[30, 20], [90, 90]]),
        labelme_shape("point", "cat", [[40.5, 3]]),
        labelme_shape("point", "cat", [[40, 30]]),
        labelme_shape("linestrip", "dog", [[5, 10], [5, -10], [15, -10], [15, 10]]),
        labelme_shape("line", "dog", [[-5, -5], [-9, -9]]),
    ]
    (tmp_path / "a.json").write_text(json.dumps(labelme_content("a.png", shapes)))
    folder = photographs(tmp_path / "folder")
    done = import_annotations(tmp_path / "a.json", folder)
    assert "3 shapes reach out of their images and are cut, such as in" in done.notes[0]
    assert "2 shapes lie outside and are left out" in done.notes[1]
    found = json.loads((folder / "strokes/a.json").read_text())["strokes"]
    assert [stroke["kind"] for stroke in found] == ["polygon", "box", "point", "brush", "brush"]
    assert found[1]["points"] == [[30, 20], [40, 30]]
    assert found[3]["points"] == [[5, 10], [5, 0]] and found[4]["points"] == [[15, 0], [15, 10]]


def test_cutting_changes_no_pixel_inside() -> None:
    rng = np.random.default_rng(0)
    for _ in range(60):
        points = [tuple(point) for point in rng.uniform(-30, 60, (int(rng.integers(3, 8)), 2))]
        shape = Shape("polygon", "a", tuple(points))
        whole = paint([shape], {"a": 1}, (HEIGHT, WIDTH), rim=False)
        np.testing.assert_array_equal(paint(cut(shape, (HEIGHT, WIDTH)), {"a": 1}, (HEIGHT, WIDTH), rim=False), whole)
        line = Shape("brush", "a", tuple(points))
        pixels = sum((paint([line], {"a": 1}, (HEIGHT, WIDTH)) == 1).ravel())
        inside = cut(line, (HEIGHT, WIDTH))
        assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for part in inside for x, y in part.points)
        assert abs(sum((paint(inside, {"a": 1}, (HEIGHT, WIDTH)) == 1).ravel()) - pixels) <= 2 + 0.3 * pixels


def test_erasers(tmp_path: Path) -> None:
    """Formats have none: lines fall apart, polygons become labels, what is drawn later stays."""
    folder = photographs(tmp_path / "folder")
    (folder / "strokes").mkdir()
    (folder / "classes.txt").write_text("ground\ncat\n")
    drawn = [
        {"kind": "brush", "class": "k1", "width": 3, "points": [[2, 5], [20, 5], [30, 5]]},
        {"kind": "polygon", "class": "cat", "points": [[2, 10], [20, 10], [20, 20], [2, 20]], "filled": True},
        {"kind": "point", "class": "cat", "width": 3, "points": [[10.5, 2.5]]},
        {"kind": "erase", "class": None, "width": 6, "points": [[10, 0], [10, 30]]},
        {"kind": "point", "class": "cat", "width": 3, "points": [[10.5, 25.5]]},
    ]
    data = {"classes": [{"key": "k1", "name": "cat"}], "strokes": drawn, "tags": ["k1"]}
    (folder / "strokes" / "a.json").write_text(json.dumps(data))
    found = next(iter(read_folder(folder, ("ground", "cat"))))
    plain = without_erasers(found, ("ground", "cat"))
    assert [shape.kind for shape in plain.shapes] == ["brush", "brush", "point"]
    first, second, _ = plain.shapes
    assert (
        first.points[0] == (2, 5)
        and first.points[-1][0] < 7
        and second.points[0][0] >= 13
        and second.points[-1] == (30, 5)
    )
    assert plain.mask is not None and plain.mask[15, 3] == 1 and plain.mask[15, 10] == 254 and plain.mask[15, 16] == 1
    export_annotations(folder, tmp_path / "out", "labelme")
    kinds = [shape["shape_type"] for shape in json.loads((tmp_path / "out" / "a.json").read_text())["shapes"]]
    assert kinds == ["mask", "mask", "linestrip", "linestrip", "point"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"strokes": 1}, "expected the lists"),
        ({"strokes": [{"kind": "star"}]}, "stroke 1: expected kind"),
        ({"strokes": [{"kind": "point", "class": "horse", "points": [[1, 1]]}]}, "expected a class of classes.txt"),
        ({"strokes": [{"kind": "line", "class": "cat", "points": [[1, 1]]}]}, "at least 2 points"),
        ({"strokes": [{"kind": "point", "class": "cat", "points": [[1, 1]], "width": 0}]}, "expected a width above 0"),
        ({"tags": ["horse"]}, "a.json tags: expected a class"),
    ],
)
def test_bad_folders(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    folder = photographs(tmp_path / "folder")
    with pytest.raises(UserError, match="expected class names"):
        export_annotations(folder, tmp_path / "out", "coco")
    (folder / "classes.txt").write_text("ground\ncat\n")
    with pytest.raises(UserError, match="found none"):
        export_annotations(folder, tmp_path / "out", "coco")
    (folder / "strokes").mkdir()
    (folder / "strokes" / "a.json").write_text(json.dumps({"strokes": [], "tags": [], **change}))
    with pytest.raises(UserError, match=message):
        export_annotations(folder, tmp_path / "out", "coco")
    (folder / "strokes" / "a.json").rename(folder / "strokes" / "z.json")
    with pytest.raises(UserError, match="no image z"):
        export_annotations(folder, tmp_path / "out", "coco")
    (folder / "strokes" / "z.json").unlink()
    (folder / "labels").mkdir()
    Image.fromarray(np.full((HEIGHT, WIDTH), 2, np.uint8)).save(folder / "labels" / "a.png")
    with pytest.raises(UserError, match=r"holds the ids \[2\]"):
        export_annotations(folder, tmp_path / "out", "coco")


def test_images_with_spaces_stay_out_of_lists(tmp_path: Path) -> None:
    folder = photographs(tmp_path / "folder", ("my cat.png", "b.png"))
    for number, name in enumerate(("my cat.png", "b.png")):
        shape = labelme_shape("point", "cat", [[1, 1]])
        (folder / f"{number}.json").write_text(json.dumps(labelme_content(name, [shape])))
    done = import_annotations(folder, folder)
    assert any("1 images have spaces in their names" in note for note in done.notes)
    assert (folder / "strokes" / "my cat.json").is_file() and (folder / "weak" / "my cat.png").is_file()
    assert (folder / "lists" / "point.txt").read_text() == "b.png weak/b.png\n"


def nodes(value: Any) -> list[tuple[Any, Any]]:
    """Every place in a JSON value: its holder, and the key there."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else []
    return [found for key in keys for found in [(value, key), *nodes(value[key])]]


@pytest.mark.parametrize("name", ["labelme", "coco", "coco_panoptic"])
def test_any_value_anywhere_is_taken_or_refused_in_one_line(tmp_path: Path, name: str) -> None:
    source = tmp_path / "source"
    SOURCES[name](source)
    path = sorted(source.glob("*.json"))[0]
    whole, rng = path.read_text(), np.random.default_rng(0)
    odd = [
        None,
        -1,
        1e308,
        float("nan"),
        10**30,
        [],
        {},
        "",
        "\ud800",
        True,
        [[]],
        "../x.png",
        "a" * 5000,
        [[1, 2]] * 4,
    ]
    taken = 0
    for number in range(30):
        data = json.loads(whole)
        places = nodes(data)
        holder, key = places[rng.integers(len(places))]
        holder[key] = odd[rng.integers(len(odd))]
        path.write_text(json.dumps(data))
        try:
            import_annotations(source, photographs(tmp_path / f"folder {number}"), name)
            taken += 1
        except UserError as error:
            assert "\n" not in str(error)
    assert 0 < taken < 30


def test_hostile_archives(tmp_path: Path) -> None:
    folder = photographs(tmp_path / "folder")
    for name, message in (("../out.json", "outside itself"), ("/etc/out.json", "outside itself")):
        with zipfile.ZipFile(tmp_path / "bad.zip", "w") as archive:
            archive.writestr(name, "{}")
        refused(tmp_path / "bad.zip", folder, message)
    with zipfile.ZipFile(tmp_path / "bad.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.json", b"0" * 30_000_000)
    refused(tmp_path / "bad.zip", folder, "unpacks to")
    link = zipfile.ZipInfo("a.json")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
    refused(tmp_path / "bad.zip", folder, "holds a link")
    (tmp_path / "bad.zip").write_bytes((tmp_path / "bad.zip").read_bytes()[:-30] + b"\0" * 8)
    refused(tmp_path / "bad.zip", folder, "bad.zip")


def test_xml_is_read_without_entities(tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_text('<?xml version="1.0" encoding="utf-16"?><annotations/>', encoding="utf-16")
    assert read_xml(tmp_path / "a.xml").tag == "annotations"
    (tmp_path / "a.xml").write_text('<?xml version="1.0" encoding="klingon"?><annotations/>')
    with pytest.raises(UserError, match="as XML"):
        read_xml(tmp_path / "a.xml")


def test_odd_sources(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        detect(tmp_path / "none")
    refused(tmp_path / "none", photographs(tmp_path / "folder"), "no such file or folder")
    refused(labelme(tmp_path / "alone"), tmp_path / "new", "2 of 2 images are missing")
    assert not (tmp_path / "new").exists()
    with pytest.raises(UserError, match="expected one of"):
        import_annotations(SOURCES["coco"](tmp_path / "source"), tmp_path / "folder", "kitti")
    with pytest.raises(UserError, match="--image_dir: no such folder"):
        import_annotations(SOURCES["coco"](tmp_path / "source"), tmp_path / "folder", image_dir=tmp_path / "none")
    with pytest.raises(UserError, match="no such folder"):
        export_annotations(tmp_path / "none", tmp_path / "out", "coco")


def test_command_line_says_it_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from spml.cli.exits import run

    (tmp_path / "a.json").write_text("{")
    with pytest.raises(SystemExit) as ended:
        run(lambda: main(["import", "--format", "labelme", str(tmp_path / "a.json"), str(tmp_path / "folder")]))
    assert ended.value.code == 1
    told = capsys.readouterr().err
    assert told.startswith("error: cannot read ") and told.count("\n") == 1


def test_image_dir_alone_is_searched(tmp_path: Path) -> None:
    source = labelme(photographs(tmp_path / "source"))
    photographs(tmp_path / "photos", ("a.png", "sub/b.png"))
    import_annotations(source, tmp_path / "folder", image_dir=tmp_path / "photos")
    assert (tmp_path / "folder" / "b.png").is_file()
    (tmp_path / "photos" / "a.png").unlink()
    refused(source, photographs(tmp_path / "other", ("b.png",)), "no image 'a.png'", image_dir=tmp_path / "photos")
