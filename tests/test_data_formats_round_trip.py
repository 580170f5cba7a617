"""Every format: in, out and in again leaves the same folder; the command lines; what `spml run` makes of it."""

import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from format_inputs import SOURCES, content, labelme, photographs
from PIL import Image

from spml.cli.main import main
from spml.data.formats import TABLE, detect, export_annotations, import_annotations
from spml.data.formats.folder import read_folder
from spml.data.lists import check_samples, read_list
from spml.data.raster import paint
from spml.errors import UserError


def test_every_format_has_a_source() -> None:
    assert set(SOURCES) == set(TABLE)


@pytest.mark.parametrize("name", TABLE)
def test_detect(tmp_path: Path, name: str) -> None:
    assert detect(SOURCES[name](tmp_path / "source")) == name


@pytest.mark.parametrize("name", TABLE)
def test_round_trip(tmp_path: Path, name: str) -> None:
    source = SOURCES[name](tmp_path / "source")
    first, second = photographs(tmp_path / "first"), photographs(tmp_path / "second")
    done = import_annotations(source, first)
    assert done.format == name and done.images == 2
    written = export_annotations(first, tmp_path / "out", name)
    assert written.images == 2
    again = import_annotations(tmp_path / "out", second, classes=first / "classes.txt")
    assert again.format == name
    assert content(first) == content(second)
    assert again.kinds == done.kinds and again.strokes == done.strokes


@pytest.mark.parametrize("name", TABLE)
def test_photographs_come_along(tmp_path: Path, name: str) -> None:
    first = photographs(tmp_path / "first")
    import_annotations(SOURCES[name](tmp_path / "source"), first)
    export_annotations(first, tmp_path / "out", name, images=True)
    shutil.rmtree(tmp_path / "source")
    done = import_annotations(tmp_path / "out", tmp_path / "new")
    assert done.images == 2
    ending = "_leftImg8bit.png" if name == "cityscapes" else ".png"
    for stem in "ab":
        assert (tmp_path / "new" / f"{stem}{ending}").read_bytes() == (first / f"{stem}.png").read_bytes()


@pytest.mark.parametrize("name", TABLE)
def test_any_format_into_any_other(tmp_path: Path, name: str) -> None:
    """From labelme, with all kinds of shapes; what a format cannot hold is said."""
    first = photographs(tmp_path / "first")
    import_annotations(labelme(tmp_path / "source"), first)
    done = export_annotations(first, tmp_path / "out", name)
    lost = " ".join(done.notes)
    assert ("scribbles" in lost) == (name in ("coco", "coco_panoptic", "yolo"))
    assert ("boxes" in lost) == (name not in ("labelme", "cvat", "coco"))
    assert import_annotations(tmp_path / "out", photographs(tmp_path / "second")).images == 2


@pytest.mark.parametrize("name", TABLE)
def test_lists_are_ones_that_training_reads(tmp_path: Path, name: str) -> None:
    folder = photographs(tmp_path / "folder")
    done = import_annotations(SOURCES[name](tmp_path / "source"), folder)
    assert done.kinds
    for kind, count in done.kinds.items():
        samples = read_list(folder / "lists" / f"{kind}.txt", folder, columns=1 if kind == "tag" else 2)
        assert len(samples) == count
        check_samples(samples, len(done.classes))


def test_zip(tmp_path: Path) -> None:
    source = labelme(photographs(tmp_path / "source"))
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for path in source.iterdir():
            archive.write(path, f"task/{path.name}")
    import_annotations(tmp_path / "all.zip", tmp_path / "zipped")
    import_annotations(source, tmp_path / "plain")
    assert content(tmp_path / "zipped") == content(tmp_path / "plain")
    assert (tmp_path / "zipped" / "a.png").is_file()


def test_labelme_beside_the_photographs(tmp_path: Path) -> None:
    folder = labelme(photographs(tmp_path / "folder"))
    import_annotations(folder, folder)
    for path in folder.glob("*.json"):
        if path.stem in "ab":
            path.unlink()
    export_annotations(folder, folder, "labelme")
    import_annotations(folder, folder)  # the same again: nothing to do
    with pytest.raises(UserError, match="expected another folder"):
        export_annotations(folder, folder, "coco")


def test_command_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, folder = labelme(tmp_path / "my source"), photographs(tmp_path / "my folder")
    assert not main(["import", str(source), str(folder)])
    told = capsys.readouterr().out
    assert "2 images with 7 strokes and 1 label images of 4 classes" in told
    assert "flags that name no class are left out: 'blurred'" in told
    assert not main(["export", "--format", "cvat", str(folder), str(tmp_path / "out"), "--images"])
    assert (tmp_path / "out" / "images" / "a.png").is_file()
    assert not main(["export", "--format", "coco", str(folder), str(tmp_path / "coco")])
    assert "note: 2 scribbles" not in capsys.readouterr().err
    for kind in ("point", "scribble", "mask"):
        words = ["run", kind, "--config", "msrc_point", "--data_dir", str(folder), "--dry", "--snapshots"]
        words += [str(tmp_path / "runs"), f"dataset.train_data_list={folder}/lists/{kind}.txt"]
        words += [f"dataset.classes={folder}/classes.txt", f"dataset.test_data_list={folder}/lists/mask.txt"]
        assert not main(words)
        assert f"lists/{kind}.txt" in capsys.readouterr().out
    own = {"tag": ["tags.txt"], "box": ["tags.txt", "--boxes", str(folder / "boxes.json")]}
    for kind, (tags, *boxes) in own.items():
        words = ["run", kind, "--config", f"msrc_{kind}", "--data_dir", str(folder), "--dry", *boxes, "--snapshots"]
        words += [str(tmp_path / "runs"), f"dataset.train_data_list={folder}/lists/{kind}.txt"]
        assert not main([*words, f"dataset.tags={folder}/{tags}", f"dataset.classes={folder}/classes.txt"])
        assert f"lists/{kind}.txt" in capsys.readouterr().out
    words = ["check", "--data_dir", str(folder), "--data_list", str(folder / "lists/scribble.txt")]
    main([*words, "--classes", str(folder / "classes.txt")])
    assert "images        1" in capsys.readouterr().out


def test_boxes_are_what_the_box_pipeline_reads(tmp_path: Path) -> None:
    from spml.data.prepare.boxes import boxes_of

    folder = photographs(tmp_path / "folder")
    names = import_annotations(labelme(tmp_path / "source"), folder).classes
    assert names == ("background", "cat", "dog", "bird")
    assert [tuple(box) for box in boxes_of(folder / "boxes.json", ["a"], names)["a"]] == [(2, 20, 5, 30, 20)]
    assert [tuple(box) for box in boxes_of(folder / "boxes.json", ["b"], names)["b"]] == [(2, 16, 18, 24, 26)]
    assert (folder / "tags.txt").read_text() == "a 1 2 3\nb 1 2 3\n"


def test_weak_shapes_stay_weak(tmp_path: Path) -> None:
    folder = photographs(tmp_path / "folder")
    import_annotations(labelme(tmp_path / "source"), folder)
    kinds = [stroke["kind"] for stroke in json.loads((folder / "strokes/a.json").read_text())["strokes"]]
    assert kinds == ["polygon", "box", "line", "brush", "point"]
    weak = np.array(Image.open(folder / "weak/a.png"))
    assert weak[18, 28] == 254, "the corner of a box"
    assert weak[12, 25] == 2, "the middle of a box"
    assert weak[5, 8] == 1, "inside the polygon"
    assert weak[0, 39] == 254
    assert not (folder / "labels/a.png").exists()
    labels = np.array(Image.open(folder / "labels/b.png"))
    assert labels[6, 5] == 1 and labels[8, 8] == 254 and labels[10, 30] == 3
    assert sorted(path.name for path in (folder / "lists").iterdir()) == [
        *("box.txt", "mask.txt", "point.txt", "scribble.txt", "tag.txt")
    ]
    assert (folder / "lists/point.txt").read_text() == "a.png weak/a.png\n"
    assert (folder / "lists/mask.txt").read_text() == "a.png weak/a.png\nb.png labels/b.png\n"


@pytest.mark.parametrize("name", TABLE)
def test_photographs_in_folders(tmp_path: Path, name: str) -> None:
    """Two photographs below folders are found again."""
    names = ("day/x/a.png", "night/b.png")
    first = photographs(tmp_path / "first", names)
    (first / "classes.txt").write_text("background\ncat\n")
    mask = np.full((30, 40), 254, np.uint8)
    mask[5:9, 5:12] = 1
    for one in names:
        path = first / "labels" / one
        path.parent.mkdir(parents=True)
        Image.fromarray(mask).save(path)
    export_annotations(first, tmp_path / "out", name)
    second = photographs(tmp_path / "second", names)
    assert import_annotations(tmp_path / "out", second, classes=first / "classes.txt").images == 2
    for one in names:
        found = np.array(Image.open(second / ("weak" if name == "yolo" else "labels") / one))
        assert (found[mask == 1] == 1).all() and (found[10:] >= 254).all()


@pytest.mark.parametrize("name", TABLE)
def test_labels_stay_pixel_by_pixel(tmp_path: Path, name: str) -> None:
    """Label images through every format: patches with holes, void, classes that touch."""
    rng = np.random.default_rng(0)
    label = np.kron(rng.choice([0, 1, 2, 254, 255], (10, 10)), np.ones((3, 4))).astype(np.uint8)
    first, second = photographs(tmp_path / "first", ("a.png",)), photographs(tmp_path / "second", ("a.png",))
    (first / "classes.txt").write_text("background\ncat\ndog\n")
    (first / "labels").mkdir()
    Image.fromarray(label).save(first / "labels" / "a.png")
    export_annotations(first, tmp_path / "out", name)
    import_annotations(tmp_path / "out", second, classes=first / "classes.txt")
    if name == "yolo":
        (annotation,) = read_folder(second, ("background", "cat", "dog"))
        found = paint(annotation.shapes, {"cat": 1, "dog": 2}, label.shape, rim=False)
    else:
        found = np.array(Image.open(second / "labels" / "a.png"))
    expected = label.copy()
    if name in ("coco", "yolo"):
        expected[label == 0] = 254  # the background is no object
    if name in ("voc", "cityscapes"):
        expected[label == 254] = 255
    elif name != "labelme":
        expected[label == 255] = 254
    np.testing.assert_array_equal(found, expected)


def test_files_say_nothing_of_this_machine(tmp_path: Path) -> None:
    first = photographs(tmp_path / "first")
    import_annotations(labelme(tmp_path / "source"), first)
    for name in TABLE:
        export_annotations(first, tmp_path / name, name)
    for path in tmp_path.rglob("*"):
        if path.suffix in (".json", ".xml", ".txt", ".yaml"):
            assert str(tmp_path) not in path.read_text()


def test_the_page_names_every_format() -> None:
    page = (Path(__file__).resolve().parents[1] / "docs" / "formats.md").read_text(encoding="utf-8")
    for name in TABLE:
        assert f"| `{name}` |" in page
