"""Conversion of VOC's, SBD's and ScribbleSup's files, made here in their formats, and of CAMs, into label PNGs."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from spml.classes import VOC_CLASSES
from spml.data.annotate import Box, box_label
from spml.data.pickled import write_cam_file
from spml.data.prepare.boxes import convert_boxes, read_boxes
from spml.data.prepare.convert import convert_files
from spml.data.prepare.drawings import Stroke, convert_drawings, draw_label, read_strokes, shorten
from spml.data.prepare.masks import convert_masks, mask_from_mat, mask_from_png
from spml.data.samples import UNLABELLED, DataError, read_label
from spml.errors import UserError
from spml.pseudo.cam_labels import convert_cams
from spml.visualize.palette import colourise, voc_palette

ROOT = Path(__file__).resolve().parents[1]
CLASSES = ("background", "cat", "dining table")


def script(name: str):
    """The module of a script, whose folder is no package."""
    spec = importlib.util.spec_from_file_location(f"script_{name}", ROOT / "pyscripts" / "data" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def mask() -> np.ndarray:
    found = np.zeros((6, 9), np.uint8)
    found[1:4, 2:5], found[4:, 6:], found[0] = 20, 1, 255
    return found


def scribble_xml(strokes: list[tuple[str, list[tuple[float, float]]]]) -> str:
    polygons = ""
    for tag, points in strokes:
        corners = "".join(f"<point><X>{x}</X><Y>{y}</Y></point>" for x, y in points)
        polygons += f"<polygon><tag>{tag}</tag>{corners}</polygon>"
    return f'<?xml version="1.0"?><annotation><filename>x.jpg</filename>{polygons}</annotation>'


def box_xml(objects: list[tuple[str, tuple[float, float, float, float]]], width: int = 30, height: int = 20) -> str:
    found = ""
    for name, corners in objects:
        inner = "".join(f"<{k}>{v}</{k}>" for k, v in zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True))
        part = "<part><name>head</name><bndbox><xmin>1</xmin></bndbox></part>"
        found += f"<object><name>{name}</name><difficult>1</difficult><bndbox>{inner}</bndbox>{part}</object>"
    return (
        f"<annotation><size><width>{width}</width><height>{height}</height><depth>3</depth></size>{found}</annotation>"
    )


def save_image(path: Path, width: int = 30, height: int = 20) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((height, width, 3), 90, np.uint8)).save(path)


def test_masks_of_three_formats_are_the_same(tmp_path: Path, capsys) -> None:
    source = tmp_path / "in"
    source.mkdir()
    savemat(source / "mat.mat", {"GTcls": {"Segmentation": mask(), "CategoriesPresent": np.array([1, 20])}})
    palette = Image.fromarray(mask())
    palette.putpalette(voc_palette().tobytes())
    palette.save(source / "palette.png")
    Image.fromarray(colourise(mask())).save(source / "colour.png")
    assert Image.open(source / "palette.png").mode == "P"
    words = ["--source_dir", str(source), "--save_dir", str(tmp_path / "out")]
    script("masks").main(words)
    for name in ("mat", "palette", "colour"):
        assert Image.open(tmp_path / "out" / f"{name}.png").mode == "L"
        assert (read_label(tmp_path / "out" / f"{name}.png") == mask()).all()
    script("masks").main(words)
    told = capsys.readouterr().out.splitlines()
    assert told[0].startswith("3 labels written") and told[0].endswith("0 were there already")
    assert told[1].startswith("0 labels written") and told[1].endswith("3 were there already")
    (tmp_path / "out" / "mat.png").unlink()
    assert convert_masks(source, tmp_path / "out").startswith("1 labels")
    assert convert_masks(source, tmp_path / "out", overwrite=True).startswith("3 labels")
    assert [path.name for path in (tmp_path / "out").iterdir() if path.suffix != ".png"] == ["record.json"]


def test_labels_of_other_settings_or_hands_are_kept(tmp_path: Path) -> None:
    (tmp_path / "xml").mkdir()
    (tmp_path / "xml" / "a.xml").write_text(scribble_xml([("cat", [(5, 10), (15, 10)])]))
    save_image(tmp_path / "image" / "a.jpg")
    given = (tmp_path / "xml", tmp_path / "image", tmp_path / "out", CLASSES)
    convert_drawings(*given, dilation=1)
    thin = (tmp_path / "out" / "a.png").read_bytes()
    with pytest.raises(
        UserError, match="other drawings are here .settings.dilation 1, now 6.: expected another folder"
    ):
        convert_drawings(*given, dilation=6)
    assert (tmp_path / "out" / "a.png").read_bytes() == thin
    assert convert_drawings(*given, dilation=6, overwrite=True).startswith("1 labels")
    assert (tmp_path / "out" / "a.png").read_bytes() != thin
    (tmp_path / "box").mkdir()
    (tmp_path / "box" / "a.xml").write_text(box_xml([("dog", (5.4, 6.0, 12, 15))]))
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "boxes.json").write_text('{"mine": []}')
    with pytest.raises(UserError, match="boxes.json: holds other boxes already: expected another --save_dir, or"):
        convert_boxes(tmp_path / "box", tmp_path / "made", VOC_CLASSES)
    assert (tmp_path / "made" / "boxes.json").read_text() == '{"mine": []}'
    convert_boxes(tmp_path / "box", tmp_path / "made", VOC_CLASSES, overwrite=True)
    with pytest.raises(UserError, match="other box labels are here .settings.core 0.4, now 0.9"):
        convert_boxes(tmp_path / "box", tmp_path / "made", VOC_CLASSES, core=0.9)
    convert_boxes(tmp_path / "box", tmp_path / "made", VOC_CLASSES)  # its own are there already
    (tmp_path / "made" / "boxes.json").write_text('{"a": []}')  # corrected by hand
    with pytest.raises(UserError, match="boxes.json: holds other boxes already"):
        convert_boxes(tmp_path / "box", tmp_path / "made", VOC_CLASSES)


def test_masks_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "bad.mat").write_bytes(b"nothing of MATLAB" * 40)
    with pytest.raises(DataError, match="bad.mat as a MATLAB file"):
        mask_from_mat(tmp_path / "bad.mat")
    savemat(tmp_path / "other.mat", {"GTinst": {"Segmentation": mask()}})
    with pytest.raises(DataError, match="expected GTcls.Segmentation.*got GTinst"):
        mask_from_mat(tmp_path / "other.mat")
    savemat(tmp_path / "float.mat", {"GTcls": {"Segmentation": mask() / 2}})
    with pytest.raises(DataError, match="of 0 to 255, got .*float64"):
        mask_from_mat(tmp_path / "float.mat")
    savemat(tmp_path / "row.mat", {"GTcls": {"Segmentation": mask()[:1]}})
    assert mask_from_mat(tmp_path / "row.mat").shape == (1, 9)
    colour = colourise(mask())
    colour[3, 7] = 1, 2, 3
    Image.fromarray(colour).save(tmp_path / "colour.png")
    with pytest.raises(DataError, match=r"VOC's palette, got \(1, 2, 3\) at row 3, column 7"):
        mask_from_png(tmp_path / "colour.png")
    with pytest.raises(DataError, match="no such file"):
        mask_from_png(tmp_path / "nowhere.png")
    (tmp_path / "high").mkdir()
    Image.fromarray(mask()).save(tmp_path / "high" / "a.png")
    with pytest.raises(DataError, match=r"class ids below 20 and 255, got \[20\]"):
        convert_masks(tmp_path / "high", tmp_path / "out", num_classes=20)
    with pytest.raises(UserError, match="expected another folder than --source_dir"):
        convert_masks(tmp_path / "high", tmp_path / "high")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="has no file"):
        convert_masks(tmp_path / "empty", tmp_path / "out")
    with pytest.raises(DataError, match="no such folder"):
        convert_masks(tmp_path / "nowhere", tmp_path / "out")


def test_files_are_converted_in_processes(tmp_path: Path) -> None:
    for index in range(4):
        Image.fromarray(mask()).save(tmp_path / f"{index}.png")
    made = convert_files(
        sorted(tmp_path.glob("*.png")), tmp_path / "out", mask_from_png, description="masks", num_workers=2
    )
    assert made.startswith("4 labels") and (read_label(tmp_path / "out" / "3.png") == mask()).all()
    with pytest.raises(UserError, match="--num_workers: expected 0 or more, got -1"):
        convert_files([], tmp_path / "out", mask_from_png, description="masks", num_workers=-1)


def test_scribbles_from_xml(tmp_path: Path, capsys) -> None:
    (tmp_path / "xml").mkdir()
    strokes = [("background", [(2, 2), (27, 2)]), ("cat", [(5, 10), (15, 10), (15, 16)]), ("tvmonitor", [(25.4, 12)])]
    (tmp_path / "xml" / "a.xml").write_text(scribble_xml(strokes))
    save_image(tmp_path / "image" / "a.jpg")
    save_image(tmp_path / "image" / "without_scribbles.jpg")
    words = ["--source_dir", str(tmp_path / "xml"), "--image_dir", str(tmp_path / "image")]
    script("scribbles").main([*words, "--save_dir", str(tmp_path / "d3")])
    assert "1 labels written" in capsys.readouterr().out
    label = read_label(tmp_path / "d3" / "a.png")
    assert label.shape == (20, 30) and set(np.unique(label)) == {0, 8, 20, UNLABELLED}
    y, x = np.mgrid[:20, :30]
    assert (label[(y == 10) & (x >= 5) & (x <= 15)] == 8).all() and label[10, 1] == UNLABELLED
    assert label[13, 10] == 8 and label[14, 10] == UNLABELLED  # three pixels from the line, and four
    disc = np.hypot(y - 12, x - 25)
    assert (label[disc <= 3] == 20).all() and not (label[disc > 3.7] == 20).any()  # OpenCV's disc has wide corners
    script("scribbles").main([*words, "--save_dir", str(tmp_path / "d6"), "--dilation", "6", "--length_ratio", "0"])
    point = read_label(tmp_path / "d6" / "a.png")
    assert point[10, 13] == 8 and point[10, 5] == UNLABELLED  # the middle of the bent line of 16 pixels


def test_lines_are_shortened_around_their_middle_and_clipped() -> None:
    points = np.array([[0.0, 0], [10, 0], [10, 10]])
    assert shorten(points, 0.0).tolist() == [[10, 0]]
    assert shorten(points, 0.5).tolist() == [[5, 0], [10, 0], [10, 5]]
    assert shorten(points, 1.0) is points and len(shorten(points[:1], 0.0)) == 1
    assert shorten(np.repeat(points[:1], 3, 0), 0.3).shape == (3, 2)
    label = draw_label([Stroke(1, np.array([[-50.0, 4], [1e9, 4]]))], (8, 8), dilation=0)
    assert (label[4] == 1).all() and (np.delete(label, 4, 0) == UNLABELLED).all()
    crossing = [Stroke(1, np.array([[4.0, 0], [4, 7]])), Stroke(0, np.array([[0.0, 4], [7, 4]]))]
    assert draw_label(crossing, (8, 8), dilation=1)[4, 4] == 1  # background goes below


def test_scribbles_that_cannot_be_used(tmp_path: Path) -> None:
    path = tmp_path / "a.xml"
    for text, expected in (
        ("<annotation><polygon>", "as XML"),
        ("<annotation/>", "expected <polygon> elements"),
        (scribble_xml([("unicorn", [(1, 1)])]), "polygon 1: expected one of the 21 class names, got 'unicorn'"),
        (scribble_xml([("cat", [(1, 1)]), ("dog", [("one", 1)])]), "polygon 2: expected a number in <X>, got 'one'"),
        (scribble_xml([("cat", [("nan", 1)])]), "expected a number"),
    ):
        path.write_text(text)
        with pytest.raises(DataError, match=expected):
            read_strokes(path, VOC_CLASSES)
    path.write_text(scribble_xml([("Dining-Table", [(1, 2)]), ("cat", [])]))
    assert [stroke.label for stroke in read_strokes(path, CLASSES)] == [2]
    save_image(tmp_path / "image" / "b.jpg")
    with pytest.raises(DataError, match="no file for 1 of 1 names, such as 'a'"):
        convert_drawings(tmp_path, tmp_path / "image", tmp_path / "out", CLASSES)
    with pytest.raises(UserError, match="--dilation.*-1"):
        convert_drawings(tmp_path, tmp_path / "image", tmp_path / "out", CLASSES, dilation=-1)
    with pytest.raises(UserError, match="--length_ratio.*1.5"):
        convert_drawings(tmp_path, tmp_path / "image", tmp_path / "out", CLASSES, length_ratio=1.5)


def test_boxes_from_xml(tmp_path: Path, capsys) -> None:
    (tmp_path / "xml").mkdir()
    objects = [("person", (1, 1, 30, 20)), ("dog", (5.4, 6.0, 12, 15))]
    (tmp_path / "xml" / "a.xml").write_text(box_xml(objects))
    (tmp_path / "xml" / "b.xml").write_text(box_xml([]))
    script("boxes").main(["--source_dir", str(tmp_path / "xml"), "--save_dir", str(tmp_path / "out")])
    assert "2 labels written" in capsys.readouterr().out
    expected = [Box(15, 0, 0, 30, 20), Box(12, 4, 5, 12, 15)]
    assert read_boxes(tmp_path / "xml" / "a.xml", VOC_CLASSES) == ((20, 30), expected)
    assert (read_label(tmp_path / "out" / "box" / "a.png") == box_label(expected, (20, 30))).all()
    assert not read_label(tmp_path / "out" / "box" / "b.png").any()
    found = json.loads((tmp_path / "out" / "boxes.json").read_text())
    assert found["b"] == [] and found["a"][1] == {"class": 12, "x0": 4, "y0": 5, "x1": 12, "y1": 15}


def test_boxes_that_cannot_be_used(tmp_path: Path) -> None:
    path = tmp_path / "a.xml"
    for text, expected in (
        ("<annotation><object/></annotation>", "expected <size>"),
        (box_xml([("dog", (40, 1, 50, 9))]), "object 1: expected a box inside 30 x 20 pixels, got 40, 1 to 50, 9"),
        (box_xml([("hat", (1, 1, 5, 9))]), "21 class names, got 'hat'"),
        (box_xml([("dog", ("a", 1, 5, 9))]), "expected a number in <xmin>"),
        (box_xml([("dog", (1, 1, 2, 2))]).replace("bndbox", "other"), "expected <bndbox>"),
    ):
        path.write_text(text)
        with pytest.raises(DataError, match=expected):
            read_boxes(path, VOC_CLASSES)
    with pytest.raises(UserError, match="--core: expected a number in .*got 0"):
        convert_boxes(tmp_path, tmp_path / "out", VOC_CLASSES, core=0)


@pytest.fixture
def cams(tmp_path: Path) -> Path:
    """CAM files of two images of 20 x 30: a cat on the left half, and nothing at all; with images and boxes."""
    cam = np.zeros((20, 30), np.float32)
    cam[:, :15] = np.linspace(0.3, 1, 15)
    write_cam_file(tmp_path / "cam" / "a.npy", {7: cam})
    write_cam_file(tmp_path / "cam" / "b.npy", {})
    (tmp_path / "xml").mkdir()
    (tmp_path / "xml" / "a.xml").write_text(box_xml([("cat", (1, 6, 15, 15))]))
    (tmp_path / "xml" / "b.xml").write_text(box_xml([]))
    for name in "ab":
        save_image(tmp_path / "image" / f"{name}.jpg")
    return tmp_path


def test_cam_labels_of_tags_and_boxes(cams: Path, capsys) -> None:
    words = ["--cam_dir", str(cams / "cam"), "--num_workers", "0"]
    script("cams").main([*words, "--save_dir", str(cams / "tag"), "--kind", "tag", "--image_dir", str(cams / "image")])
    tag = read_label(cams / "tag" / "a.png")
    assert (tag[:, :15] == 8).all() and (tag[:, 15:] == 0).all() and not read_label(cams / "tag" / "b.png").any()
    script("cams").main([*words, "--save_dir", str(cams / "box"), "--kind", "box", "--box_dir", str(cams / "xml")])
    box = read_label(cams / "box" / "a.png")
    inside = np.zeros((20, 30), bool)
    inside[5:15, :15] = True
    assert (box[~inside] == 0).all() and (box[5:15, :7] == UNLABELLED).all() and (box[5:15, 8:15] == 8).all()
    assert capsys.readouterr().out.count("2 labels written") == 2
    convert_cams(cams / "cam", cams / "high", "tag", VOC_CLASSES, image_dir=cams / "image", threshold=0.9)
    high = read_label(cams / "high" / "a.png")
    assert (high[:, :12] == UNLABELLED).all() and (high[:, 13:15] == 8).all()


def test_cams_that_cannot_be_used(cams: Path) -> None:
    options = {"image_dir": cams / "image", "box_dir": cams / "xml"}
    with pytest.raises(UserError, match="--kind: expected one of tag, box, got 'point'"):
        convert_cams(cams / "cam", cams / "out", "point", VOC_CLASSES, **options)
    with pytest.raises(UserError, match="--threshold.*got 2"):
        convert_cams(cams / "cam", cams / "out", "tag", VOC_CLASSES, threshold=2, **options)
    with pytest.raises(UserError, match="--alpha.*got 0"):
        convert_cams(cams / "cam", cams / "out", "tag", VOC_CLASSES, alpha=0, **options)
    with pytest.raises(UserError, match="--kind box needs --box_dir"):
        convert_cams(cams / "cam", cams / "out", "box", VOC_CLASSES)
    with pytest.raises(DataError, match="a.npy: .*expected foreground class indexes 0 to 1, got 7"):
        convert_cams(cams / "cam", cams / "out", "tag", CLASSES, **options)
    write_cam_file(cams / "cam" / "b.npy", {1: np.ones((4, 4))})
    with pytest.raises(DataError, match=r"b.npy: expected a CAM of \(20, 30\) as .*got \(4, 4\)"):
        convert_cams(cams / "cam", cams / "out", "box", VOC_CLASSES, **options)
    (cams / "image" / "b.jpg").unlink()
    with pytest.raises(DataError, match="no file for 1 of 2 names, such as 'b'"):
        convert_cams(cams / "cam", cams / "out", "tag", VOC_CLASSES, **options)
