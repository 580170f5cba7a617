"""Lists from the folders of a data root, and the check that says what it lacks."""

import importlib.util
import json
from pathlib import Path

import pytest

from spml.config import load_config
from spml.data.lists import read_list
from spml.data.prepare import densepose, voc
from spml.data.prepare.layout import DataRoot
from spml.data.samples import DataError
from spml.errors import UserError

ROOT = Path(__file__).resolve().parents[1]
TRAIN, VAL, TEST, SBD = ("t1", "t2"), ("v1", "v2"), ("e1",), ("s1", "s2", "t1", "v2")
TRAIN_PLUS = ["s1", "s2", "t1", "t2"]


def script(name: str):
    """The module of a script, whose folder is no package."""
    spec = importlib.util.spec_from_file_location(f"script_{name}", ROOT / "pyscripts" / "data" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def touch(folder: Path, names, suffix: str = ".png") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / f"{name}{suffix}").touch()


@pytest.fixture
def voc_root(tmp_path: Path) -> Path:
    """A complete VOC root of seven images."""
    root = tmp_path / "data root"
    every = {*TRAIN, *VAL, *TEST, *SBD}
    sets = root / voc.IMAGE_SETS
    sets.mkdir(parents=True)
    for split, names in (("train", TRAIN), ("val", VAL), ("test", TEST)):
        (sets / f"{split}.txt").write_text("".join(f"{name}\n" for name in names))
    touch(root / "VOC2012/JPEGImages", every, ".jpg")
    touch(root / "VOC2012/segcls", {*TRAIN, *VAL})
    touch(root / "sbd/dataset/clsimg", SBD)
    touch(root / "VOC2012/hed", TRAIN_PLUS)
    touch(root / "VOC2012/cam/seam", TRAIN_PLUS, ".npy")
    for folder, _ in voc.WEAK.values():
        touch(root / folder, {*TRAIN_PLUS, *VAL})
    return root


def names(path: Path, root: Path) -> list[str]:
    samples = read_list(path, root)
    assert all(file.is_file() for sample in samples for file in sample.files)
    return [sample.name for sample in samples]


def test_voc_lists_with_the_released_names(voc_root: Path, tmp_path: Path, capsys) -> None:
    lists = tmp_path / "lists"
    words = ["--data_dir", str(voc_root), "--dataset", "voc12"]
    script("lists").main([*words, "--save_dir", str(lists)])
    told = capsys.readouterr().out
    assert "14 lists written" in told and "missing" in told.splitlines()[0]
    expected = {"train": TRAIN, "train+": TRAIN_PLUS, "trainval": [*TRAIN, *VAL], "val": VAL, "test": TEST}
    for name, kept in expected.items():
        assert names(lists / f"{name}.txt", voc_root) == list(kept)
    rows = (lists / "panoptic_train+_hed.txt").read_text().splitlines()
    assert rows[0] == "VOC2012/JPEGImages/s1.jpg sbd/dataset/clsimg/s1.png VOC2012/hed/s1.png"
    assert rows[2] == "VOC2012/JPEGImages/t1.jpg VOC2012/segcls/t1.png VOC2012/hed/t1.png"  # VOC's mask goes first
    assert (lists / "test.txt").read_text() == "VOC2012/JPEGImages/e1.jpg\n"
    row = "VOC2012/JPEGImages/s1.jpg VOC2012/scribble/dilate_6_0.0/s1.png VOC2012/hed/s1.png"
    assert (lists / "scribble_train+_d6_0.0_hed.txt").read_text().splitlines()[0] == row
    for experiment in voc.EXPERIMENTS:  # what the configs name is among the lists
        dataset = load_config(ROOT / f"configs/voc12/{experiment}.yaml").dataset
        for path in (dataset.train_data_list, dataset.test_data_list):
            assert Path(path).parent == Path("datasets/voc12") and (lists / Path(path).name).is_file()
    assert script("check").main([*words, "--list_dir", str(lists)]) == 0
    assert "complete for box, point, scribble, tag" in capsys.readouterr().out
    assert script("check").main([*words, "--list_dir", str(lists), "--experiments", "mask", "test"]) == 0


def test_voc_lists_without_sbd(voc_root: Path, tmp_path: Path, capsys) -> None:
    for path in (voc_root / "sbd/dataset/clsimg").iterdir():
        path.unlink()
    script("lists").main(["--data_dir", str(voc_root), "--dataset", "voc12", "--save_dir", str(tmp_path)])
    assert names(tmp_path / "train+.txt", voc_root) == list(TRAIN)
    assert names(tmp_path / "scribble_train+_d3_hed.txt", voc_root) == TRAIN_PLUS
    words = ["--data_dir", str(voc_root), "--dataset", "voc12", "--list_dir", str(tmp_path)]
    assert script("check").main([*words, "--experiments", "scribble"]) == 0


def test_what_is_missing_is_named(voc_root: Path, tmp_path: Path, capsys) -> None:
    lists = tmp_path / "lists"
    words = ["--data_dir", str(voc_root), "--dataset", "voc12"]
    (voc_root / "VOC2012/hed/s2.png").unlink()
    for path in (voc_root / "VOC2012/cam/seam_a6_th0.2").iterdir():
        path.unlink()
    (voc_root / "VOC2012/cam/seam_a6_th0.2").rmdir()
    script("lists").main([*words, "--save_dir", str(lists)])
    told = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line}
    assert "3 of 4" in told["scribble_train+_d3_hed.txt"] and "1 in VOC2012/hed" in told["scribble_train+_d3_hed.txt"]
    assert (
        "not written" in told["seam_train+_a6_th0.2_hed.txt"] and not (lists / "seam_train+_a6_th0.2_hed.txt").exists()
    )
    assert names(lists / "scribble_train+_d3_hed.txt", voc_root) == ["s1", "t1", "t2"]
    (voc_root / "VOC2012/segcls/v1.png").unlink()
    (voc_root / "VOC2012/cam/seam/t1.npy").unlink()
    check = [*words, "--list_dir", str(lists), "--experiments"]
    assert script("check").main([*check, "tag", "scribble"]) == 1
    told = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line}
    assert "3 of 4 .png" in told["VOC2012/hed"] and told["VOC2012/hed"].endswith("s2")
    assert (
        told["VOC2012/cam/seam_a6_th0.2"].endswith("the folder") and "0 of 4 .png" in told["VOC2012/cam/seam_a6_th0.2"]
    )
    assert "3 of 4 .npy" in told["VOC2012/cam/seam"] and told["VOC2012/cam/seam"].endswith("t1")
    assert told["VOC2012/segcls"].endswith("v1") and told["VOC2012/JPEGImages"].rstrip().endswith("6 of 6 .jpg")
    assert "the list, in" in told["seam_train+_a6_th0.2_hed.txt"]
    assert told["scribble_train+_d3_hed.txt"].endswith("1 lines")
    assert told["panoptic_val.txt"].endswith("1 of its files, such as VOC2012/segcls/v1.png")
    with pytest.raises(UserError, match="--experiments: expected some of box, .*got 'saliency'"):
        script("check").main([*check, "saliency"])


def test_roots_that_are_none(tmp_path: Path, capsys) -> None:
    words = ["--data_dir", str(tmp_path), "--dataset", "voc12"]
    with pytest.raises(DataError, match="cannot read the image set .*train.txt"):
        script("lists").main(words)
    assert script("check").main(words) == 1
    assert "missing: cannot read the image set" in capsys.readouterr().out
    with pytest.raises(DataError, match="--data_dir .*nowhere: no such folder"):
        DataRoot(tmp_path / "nowhere")
    (tmp_path / voc.IMAGE_SETS).mkdir(parents=True)
    (tmp_path / voc.IMAGE_SETS / "train.txt").write_text("\n")
    with pytest.raises(DataError, match="train.txt is empty"):
        script("lists").main(words)
    (tmp_path / voc.IMAGE_SETS / "train.txt").write_text("t1 -1\n")
    (tmp_path / voc.IMAGE_SETS / "val.txt").write_text("v1\n")
    with pytest.raises(DataError, match="no list can be written"):
        script("lists").main([*words, "--save_dir", str(tmp_path)])
    assert DataRoot(tmp_path).names(voc.IMAGE_SETS, "train.txt") == ["t1"]


def test_densepose_lists(tmp_path: Path, capsys) -> None:
    root, lists = tmp_path / "root", tmp_path / "lists"
    train = [f"COCO_train2014_{number:012}" for number in range(3)]
    val = [f"COCO_val2014_{number:012}" for number in range(4)]
    touch(root / "images/train2014", train, ".jpg")
    touch(root / "images/val2014", val, ".jpg")
    touch(root / "segcls/densepose_points/gray/train2014", train[:2])  # a folder for each split
    touch(root / "segcls/densepose/gray", [*train, *val])  # one for all
    touch(root / "seginst/pmi_0.1_256", train)
    words = ["--data_dir", str(root), "--dataset", "densepose"]
    script("lists").main([*words, "--save_dir", str(lists)])
    assert "no name known" in capsys.readouterr().out and not (lists / "panoptic_minival2014.txt").exists()
    assert script("check").main([*words, "--list_dir", str(lists)]) == 1
    (root / "annotations").mkdir()
    for split, chosen in (("minival", val[:1]), ("valminusminival", val[1:])):
        content = {"images": [{"file_name": f"{name}.jpg"} for name in chosen]}
        (root / densepose.ANNOTATIONS.format(split)).write_text(json.dumps(content))
    script("lists").main([*words, "--save_dir", str(lists)])
    row = f"images/val2014/{val[0]}.jpg segcls/densepose/gray/{val[0]}.png\n"
    assert (lists / "panoptic_minival2014.txt").read_text() == row
    assert names(lists / "panoptic_valminusminival2014.txt", root) == val[1:]
    assert names(lists / "panoptic_train2014_sub.txt", root) == train
    rows = (lists / "panoptic_train2014_points_pmi0.1_256.txt").read_text().splitlines()
    label = f"segcls/densepose_points/gray/train2014/{train[0]}.png"
    assert rows[0] == f"images/train2014/{train[0]}.jpg {label} seginst/pmi_0.1_256/{train[0]}.png" and len(rows) == 2
    dataset = load_config(ROOT / "configs/densepose/point.yaml").dataset
    assert all((lists / Path(path).name).is_file() for path in (dataset.train_data_list, dataset.test_data_list))
    assert script("check").main([*words, "--list_dir", str(lists)]) == 0
    (root / densepose.ANNOTATIONS.format("minival")).write_text("[]")
    with pytest.raises(DataError, match="minival.json: expected JSON with `images`"):
        script("lists").main([*words, "--save_dir", str(lists)])
