"""Lists of a user's own folder, found or made of images and labels with the same names."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from spml.cli.main import main
from spml.data.lists import read_list
from spml.data.pairs import find_lists, find_pairs, strays, write_pairs
from spml.data.samples import DataError


def save(path: Path, value: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((6, 8), value, np.uint8)).save(path)


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """Three photographs, two with scribbles, and a label without a photograph."""
    for name in ("my cat.png", "b.JPG", "c.png", ".hidden.png"):
        save(tmp_path / "images" / name)
    for name in ("my cat.png", "b.png", "other.png"):
        save(tmp_path / "scribbles" / name, 1)
    return tmp_path


def test_images_and_labels_of_the_same_name(own: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    words = ["prepare", "pairs", "--data_dir", str(own), "--kind", "scribble", "--save_dir", str(tmp_path / "lists")]
    assert main(words) == 0
    assert "2 of 3 images have labels" in capsys.readouterr().out
    train = read_list(tmp_path / "lists" / "train.txt", own, 2)
    assert [(sample.image.name, sample.label.name) for sample in train] == [("b.JPG", "b.png"), ("my cat.png",) * 2]
    assert [sample.name for sample in read_list(tmp_path / "lists" / "all.txt", own)] == ["b", "c", "my cat"]


@pytest.mark.parametrize("place", ["scribble", "weak", "labels"])
def test_images_in_the_folder_itself_and_other_names_of_label_folders(tmp_path: Path, place: str) -> None:
    save(tmp_path / "a.png")
    save(tmp_path / place / "a.png")
    assert find_pairs(tmp_path, "scribble") == ([Path("a.png")], [(Path("a.png"), Path(place) / "a.png")])


@pytest.mark.parametrize(
    ("kind", "place"), [("scribble", "scribbles"), ("point", "points"), ("box", "boxes"), ("mask", "masks")]
)
def test_the_folder_of_a_kind_goes_before_others(tmp_path: Path, kind: str, place: str) -> None:
    save(tmp_path / "a.png")
    for folder in {place, "weak", "masks"}:
        save(tmp_path / folder / "a.png")
    assert find_pairs(tmp_path, kind)[1] == [(Path("a.png"), Path(place) / "a.png")]


def test_full_masks_are_no_weak_labels(tmp_path: Path) -> None:
    save(tmp_path / "a.png")
    save(tmp_path / "masks" / "a.png")
    assert find_pairs(tmp_path, "mask")[1] == [(Path("a.png"), Path("masks/a.png"))]
    for kind in ("scribble", "point", "box"):
        with pytest.raises(DataError, match="none of its 1 images has a label"):
            find_pairs(tmp_path, kind)


def test_own_lists_go_before(own: Path) -> None:
    assert find_lists(own, "scribble").train is None and find_lists(own, "scribble").test is None
    for name in ("train.txt", "lists/scribble.txt", "val.txt"):
        (own / name).parent.mkdir(exist_ok=True)
        (own / name).write_text("images/b.JPG scribbles/b.png\n")
    assert find_lists(own, "scribble").train == own / "lists/scribble.txt"
    assert find_lists(own, "point").train == own / "train.txt" and find_lists(own, "point").test == own / "val.txt"


def test_what_is_missing_is_named(own: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="none of its 3 images has a label: expected PNGs .* in one of points, point"):
        find_pairs(own, "point")
    with pytest.raises(DataError, match="no folder .*nowhere"):
        find_pairs(tmp_path / "nowhere", "point")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty: no image"):
        find_pairs(tmp_path / "empty", "point")


def test_labels_that_no_image_has_are_named(tmp_path: Path) -> None:
    for name in "abc":
        save(tmp_path / "images" / f"{name}.png")
    for name in ("a.png", "bb.png", "c.jpg"):
        save(tmp_path / "scribbles" / name)
    assert strays(tmp_path, "scribble") == [
        f"no image has the name of {tmp_path}/scribbles/bb.png",
        f"a label is a file .png, which this is not: {tmp_path}/scribbles/c.jpg",
    ]
    (tmp_path / "tags.txt").write_text("a 1\nplian 2\nb 1\nzzz 1\n")
    assert strays(tmp_path, "tag") == [f"no image has the name 'plian' in {tmp_path}/tags.txt, and 1 more"]


def test_own_lists_are_not_replaced(tmp_path: Path) -> None:
    save(tmp_path / "a.png")
    save(tmp_path / "scribbles" / "a.png")
    lists = tmp_path / "train.txt", tmp_path / "all.txt"
    lists[0].write_text("mine.png label.png\n")
    with pytest.raises(DataError, match="train.txt: holds other lines already: expected another --save_dir, or --over"):
        write_pairs(tmp_path, "scribble", *lists)
    assert lists[0].read_text() == "mine.png label.png\n" and not lists[1].exists()
    assert (
        write_pairs(tmp_path, "scribble", *lists, overwrite=True) == write_pairs(tmp_path, "scribble", *lists) == (1, 1)
    )
