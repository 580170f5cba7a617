"""The pipelines of tags and boxes from nothing: their commands, and end to end on a few of the built-in images."""

import json
import shutil
from pathlib import Path

import pytest
from test_pipelines import EVALUATE, RETRIEVAL, SHORT, TAG_ROUND, Interpreter, dry, option, pipeline, script_of

from spml.data.annotate_list import annotate_list
from spml.data.lists import read_label, read_list
from spml.data.pickled import read_cam_file
from spml.data.shapes import make_shapes

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")

SMALL = ["network.embedding_dim=8", "train.batch_size=2", "train.crop_size=[48,48]", "test.crop_size=[56,56]"]
SMALL += ["test.stride=[56,56]", "test.image_size=56", "train.image_size=56", "num_threads=0"]
ROWS = ["CAM", "test images: retrieval", "CAM + walk", "round 1", "classifier of round 1", "round 2"]


def test_tags_make_their_cams_first() -> None:
    commands = dry("voc12_tag", "train.seed=1", CAM="train.seed=2", INSTANCE_DIR="hed", GPUS=2, SNAPSHOTS="out")
    scripts = ["train_cam.py", "cam.py", "train.py", *RETRIEVAL, *TAG_ROUND, *TAG_ROUND, *EVALUATE]
    assert [script_of(command) for command in commands] == scripts
    train, cam, stage1, memory = commands[:4]
    configs = [option(command, "--cfg_path") for command in commands[:3]]
    assert configs == ["configs/voc12/cam.yaml", "configs/voc12/cam.yaml", "configs/voc12/tag.yaml"]
    assert train[-2:] == ["train.seed=1", "train.seed=2"] and "--nproc_per_node=2" in train
    assert cam[-1] == "train.seed=1" and "--boxes" not in cam and "--gt_list" not in cam
    assert option(cam, "--snapshot_dir") == option(train, "--snapshot_dir") == "out/cam_network"
    assert option(cam, "--save_dir") == "out/cams" and option(cam, "--instance_dir") == "hed"
    labels = [command for command in commands if script_of(command) == "pseudo_label.py"]
    for command in (stage1, memory, *labels):
        assert option(command, "--data_list") == "out/cams/list_tag.txt"
    assert option(labels[0], "--cam_dir") == "out/cams/cam"


def test_boxes_make_their_cams_first(tmp_path: Path) -> None:
    commands = dry("voc12_box", DATAROOT="root", STAGES="cam train")
    assert [script_of(command) for command in commands] == ["cam.py", "train.py"]
    assert option(commands[0], "--boxes") == "root/VOC2012/Annotations"
    assert option(commands[0], "--instance_dir") == "root/VOC2012/hed"
    assert option(commands[1], "--data_list") == "snapshots/voc12_box/cams/list_box.txt"
    (given,) = dry("voc12_box", STAGES="train", CAM_DIR="cams")
    assert "--data_list" not in given  # the config's list, of labels that are there
    mine = [tmp_path / "mine_cam.yaml", tmp_path / "mine_tag.yaml"]
    for path in mine:
        path.write_text("dataset:\n  num_classes: 6\n")
    own = dry("voc12_tag", CFG=mine[1], STAGES="train_cam train")
    assert [option(command, "--cfg_path") for command in own] == [str(path) for path in mine]
    assert option(own[1], "--data_list").endswith("mine_tag/cams/list_tag.txt") and "--instance_dir" not in own[0]


@pytest.mark.parametrize(
    ("name", "own", "expected"),
    [
        ("voc12_tag", {"CFG": "my.yaml"}, "CAM_CFG is not set: expected the config of a network of CAMs"),
        ("voc12_box", {"CFG": "configs/msrc_box.yaml"}, "BOXES is not set: expected boxes.json"),
        ("voc12_point", {"GT_LIST": "nowhere.txt"}, "GT_LIST: no data list nowhere.txt"),
    ],
)
def test_mistakes(name: str, own: dict[str, str], expected: str) -> None:
    done = pipeline(name, DATAROOT="x", **own)
    assert done.returncode == 1 and done.stderr.startswith(f"error: {expected}") and not done.stdout


def test_quality_is_asked_of_every_label() -> None:
    commands = dry("voc12_point", GT_LIST="masks.txt", SNAPSHOTS="out")
    asked = [command for command in commands if script_of(command) == "quality.py"]
    assert [script_of(command) for command in commands if command not in asked] == SHORT
    for command in asked:
        assert option(command, "--json") == "out/quality.json" and option(command, "--data_list") == "masks.txt"
    assert option(asked[1], "--labels") == "pseudo labels=out/pseudo/semantic_gray"


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four training images and a test image of the built-in data, with their boxes."""
    folder = tmp_path_factory.mktemp("shapes")
    make_shapes(folder, 4, 1)
    annotate_list(folder, folder / "train_instance.txt", folder / "boxes", "box")
    return folder


def settings(shapes: Path, folder: Path, kind: str) -> tuple[list[str], dict[str, object]]:
    """The overrides and settings of a tiny run; of CAMs, too, whose config is that of the quickstart."""
    data = {"tags": "tags.txt", "classes": "classes.txt", "train_data_list": "train.txt", "test_data_list": "val.txt"}
    overrides = [*SMALL, *(f"dataset.{key}={shapes / name}" for key, name in data.items())]
    own = {"CFG": f"configs/quickstart_{kind}.yaml", "CAM_CFG": "configs/quickstart_cam.yaml", "DATAROOT": shapes}
    own |= {"SNAPSHOTS": folder / "out", "GRID": "3,3", "GT_LIST": shapes / "train_mask.txt", "OMP_NUM_THREADS": 1}
    own |= {"CAM": "train.max_iteration=3", "CLASSIFIER": "train.max_iteration=2"}
    return [*overrides, "train.max_iteration=2"], own


def test_tags_alone_to_a_segmentation(shapes: Path, tmp_path: Path, inline_refiner: None) -> None:
    overrides, own = settings(shapes, tmp_path, "tag")
    done = Interpreter(tmp_path / "python").pipeline("voc12_tag", *overrides, **own)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    out = tmp_path / "out"
    tags = dict(line.split(maxsplit=1) for line in (shapes / "tags.txt").read_text().splitlines())
    for name, shown in tags.items():  # a file for each image, a CAM for each of its tags
        found = sorted(index + 1 for index in read_cam_file(out / f"cams/cam/{name}.npy"))
        assert found == list(map(int, shown.split()))
    listed = read_list(out / "cams/list_tag.txt", shapes, columns=3)
    assert len(listed) == 4 and listed[0].instance.parent == shapes / "oversegmentation"
    assert len(list((out / "cams/picture").iterdir())) == 4
    quality = json.loads((out / "quality.json").read_text())
    assert list(quality) == [*ROWS, "test images: classifier"]
    assert [row["images"] for row in quality.values()] == [4, 1, 4, 4, 4, 4, 1]
    assert all(0 <= row["mean_iou"] <= 100 for row in quality.values())
    assert "\ntest images: classifier" in done.stdout  # the table
    assert read_label(out / "evaluation/semantic_gray/val_00000.png").max() < 6


def test_boxes_to_the_embedding(shapes: Path, tmp_path: Path) -> None:
    overrides, own = settings(shapes, tmp_path, "tag")
    own |= {"BOXES": shapes / "boxes/boxes.json", "STAGES": "train_cam cam train"}
    done = Interpreter(tmp_path / "python").pipeline("voc12_box", *overrides, **own)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    listed = read_list(tmp_path / "out/cams/list_box.txt", shapes, columns=3)
    boxes = json.loads((shapes / "boxes/boxes.json").read_text())
    for sample in listed:
        label, inside = read_label(sample.semantic), read_label(sample.semantic) * 0
        for box in boxes[sample.name]:
            inside[box["y0"] : box["y1"], box["x0"] : box["x1"]] = 1
        assert ((label == 0) == (inside == 0)).all()
    assert (tmp_path / "out/stage1/model-1.pth").is_file()
