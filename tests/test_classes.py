"""Class names: of files, of the data sets of the paper, of nobody."""

from pathlib import Path

import pytest

from spml.classes import DENSEPOSE_CLASSES, VOC_CLASSES, class_names, read_class_names
from spml.errors import UserError

ROOT = Path(__file__).resolve().parents[1]


def test_the_files_of_the_configs_are_the_names_in_the_code():
    assert read_class_names(ROOT / "configs/voc12/classes.txt") == VOC_CLASSES and len(VOC_CLASSES) == 21
    assert (
        read_class_names(ROOT / "configs/densepose/classes.txt") == DENSEPOSE_CLASSES and len(DENSEPOSE_CLASSES) == 15
    )
    assert len(set(VOC_CLASSES)) == 21 and len(set(DENSEPOSE_CLASSES)) == 15


def test_no_data_set_gets_names_of_another():
    assert class_names(3) == ("class 0", "class 1", "class 2")
    assert class_names(21)[15] == "class 15" and class_names()[20] == "class 20"
    assert class_names(21, dataset="mine")[15] == "class 15"
    assert class_names(dataset="VOC2012") == class_names(21, dataset="VOC2012") == VOC_CLASSES
    assert class_names(15, dataset="Densepose") == DENSEPOSE_CLASSES
    assert class_names(3, dataset="VOC2012") == class_names(3)


def test_files(tmp_path):
    path = tmp_path / "names.txt"
    path.write_bytes(b"\xef\xbb\xbfground\r\ntraffic sign\r\n\r\n")
    assert class_names(path=path) == class_names(2, path) == read_class_names(str(path)) == ("ground", "traffic sign")
    with pytest.raises(UserError, match="names.txt: expected 5 class names, one a line, got 2"):
        class_names(5, path)


def test_refusals(tmp_path):
    with pytest.raises(UserError, match="expected 2 to 254 classes, got 300"):
        class_names(300)
    with pytest.raises(UserError, match=r"expected a text file of class names, got '.*none\.txt' \(No such file"):
        read_class_names(tmp_path / "none.txt")
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(UserError, match="expected a text file of class names"):
        read_class_names(tmp_path / "binary.txt")


@pytest.mark.parametrize(
    ("text", "got"),
    [
        ("", "0 names"),
        ("one\n", "1 names"),
        ("a\nb\na\n\n \n", "3 names, 'a' twice"),
        ("\n".join(map(str, range(255))), "255"),
    ],
)
def test_lists_that_cannot_be(tmp_path, text, got):
    path = tmp_path / "names.txt"
    path.write_text(text)
    with pytest.raises(UserError, match=rf"expected 2\.\.254 different class names in .*names\.txt.* got {got}"):
        read_class_names(path)


def test_an_empty_line_would_move_the_ids_of_all_names_below(tmp_path):
    path = tmp_path / "names.txt"
    path.write_text("background\n\nred thing\nblue\n")
    with pytest.raises(UserError, match="names.txt line 2: expected the name of class 1, got nothing"):
        read_class_names(path)
    path.write_text("background\nblue\n\n\n")
    assert read_class_names(path) == ("background", "blue")
