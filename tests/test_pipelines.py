"""The pipelines of bashscripts/: the commands that they print, and each of them end to end on the tiny data."""

import contextlib
import json
import os
import re
import runpy
import select
import shutil
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from spml.data.annotate_list import relative_path
from spml.data.lists import read_label, read_list, write_list
from spml.data.pickled import write_cam_file
from spml.pseudo.cam_labels import convert_cams

ROOT = Path(__file__).resolve().parents[1]
PIPELINES = {
    "voc12_tag": "voc12/train_spml_tag.sh",
    "voc12_box": "voc12/train_spml_box.sh",
    "voc12_scribble": "voc12/train_spml_scribble.sh",
    "voc12_point": "voc12/train_spml_point.sh",
    "densepose_point": "densepose/train_spml_point.sh",
}
RETRIEVAL = ["prototype.py", "inference.py", "benchmark_by_mIoU.py"]
EVALUATE = ["inference.py", "benchmark_by_instance.py", "benchmark_by_mIoU.py"]
SHORT = ["train.py", *RETRIEVAL, "pseudo_label.py", "train_classifier.py", *EVALUATE]
TAG_ROUND = ["pseudo_label.py", "prototype.py", "pseudo_label.py", "train_classifier.py"]
SETTINGS = (
    "STAGES",
    "DRY",
    "GPUS",
    "GRID",
    "CFG",
    *("CAM_DIR", "CAM_CFG", "CAM", "BOXES", "INSTANCE_DIR", "GT_LIST"),
    "SNAPSHOTS",
    "EXPECT",
    "CLASSIFIER",
    "RELEASED_EVALUATION",
)

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")


def environment(python: str | Path, settings: dict[str, object]) -> dict[str, str]:
    own = {key: value for key, value in os.environ.items() if key not in SETTINGS}
    return own | {"SPML_PYTHON": str(python), **{key: str(value) for key, value in settings.items()}}


def words_of(name: str, *overrides: str) -> list[str]:
    return ["bash", str(ROOT / "bashscripts" / PIPELINES[name]), *overrides]


def pipeline(name: str, *overrides: str, **settings: object) -> subprocess.CompletedProcess:
    """Run a pipeline with this interpreter."""
    env = environment(sys.executable, settings)
    return subprocess.run(words_of(name, *overrides), env=env, capture_output=True, text=True)


class Interpreter:
    """An interpreter for pipelines that runs their scripts in this process: a start of torch a script takes minutes.

    Bash calls a file that hands the words over and waits for output and status. What is no script, as
    `-c`, goes to the true interpreter.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder, self.python = folder, folder / "python"
        os.mkfifo(folder / "call")
        os.mkfifo(folder / "answer")
        self.python.write_text(
            f"""#!/usr/bin/env bash
            case $1 in -*) exec '{sys.executable}' "$@" ;; esac
            cd -- "$(dirname -- "$0")"
            printf '%s\\0' "$@" >words
            echo >call
            read -r status <answer
            cat output
            exit "$status"
            """
        )
        self.python.chmod(0o755)

    def pipeline(self, name: str, *overrides: str, **settings: object) -> subprocess.CompletedProcess:
        """As the function."""
        files = [(self.folder / kind).open("w+") for kind in ("stdout", "stderr")]
        call = os.open(self.folder / "call", os.O_RDWR | os.O_NONBLOCK)
        env = environment(self.python, settings)
        process = subprocess.Popen(words_of(name, *overrides), env=env, stdout=files[0], stderr=files[1])
        while process.poll() is None:
            if select.select([call], [], [], 0.02)[0]:
                os.read(call, 1)
                self.serve()
        os.close(call)
        for file in files:
            file.seek(0)
        return subprocess.CompletedProcess(process.args, process.returncode, *(file.read() for file in files))

    def serve(self) -> None:
        """Run the script that bash asks for."""
        words = (self.folder / "words").read_text().split("\0")[:-1]
        with pytest.MonkeyPatch.context() as patch, (self.folder / "output").open("w") as output:
            patch.chdir(ROOT)
            patch.setattr(sys, "argv", words)
            with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
                try:
                    runpy.run_path(words[0], run_name="__main__")
                    status: object = 0
                except SystemExit as stop:
                    status = stop.code or 0
                except Exception:  # a bug: bash must not wait for its answer
                    traceback.print_exc(file=output)
                    status = 1
        (self.folder / "answer").write_text(f"{status}\n")


def dry(name: str, *overrides: str, **settings: object) -> list[list[str]]:
    """The commands that a pipeline prints, as words."""
    done = pipeline(name, *overrides, DRY=1, **{"DATAROOT": "data root", **settings})
    assert done.returncode == 0, done.stderr
    lines = [line.replace("\\ ", "\0").split() for line in done.stdout.splitlines()]
    return [[word.replace("\0", " ") for word in line] for line in lines if line and line[0] != "=="]


def script_of(command: list[str]) -> str:
    return next(Path(word).name for word in command if word.endswith(".py"))


def option(command: list[str], name: str) -> str:
    return command[command.index(name) + 1]


@pytest.mark.parametrize("name", PIPELINES)
def test_commands(name: str) -> None:
    commands = dry(name, "train.base_lr=0.1", CAM_DIR="cams")
    scripts = SHORT if name != "voc12_tag" else ["train.py", *RETRIEVAL, *TAG_ROUND, *TAG_ROUND, *EVALUATE]
    assert [script_of(command) for command in commands] == scripts
    for command in commands:
        assert option(command, "--data_dir") == "data root" and (ROOT / command[1]).is_file()
        assert ("train.base_lr=0.1" in command) == ("benchmark" not in command[1])
        if "--cfg_path" in command:
            assert option(command, "--cfg_path") == f"configs/{name.replace('_', '/')}.yaml"
    folder = f"snapshots/{name}"
    by_script = {script_of(command): command for command in commands}  # the last of each
    memory = next(command for command in commands if script_of(command) == "prototype.py")
    assert "--full_masks" not in memory and "--data_list" not in memory  # the config's list of weak labels
    labels = "pseudo2" if name == "voc12_tag" else "pseudo"
    classifier = by_script["train_classifier.py"]
    assert option(classifier, "--data_list") == f"{folder}/{labels}/list.txt"
    assert classifier[-1] == f"network.pretrained={folder}/stage1"  # after all overrides
    assert {"--resume", "train.batch_size=16", "train.max_iteration=4000"} <= set(classifier)
    last = by_script["inference.py"]
    assert {"--crf", "--flip"} <= set(last) and option(last, "--scales") == "0.5,0.75,1,1.25,1.5"
    assert option(last, "--snapshot_dir") == f"{folder}/stage2"
    assert option(by_script["benchmark_by_mIoU.py"], "--pred_dir") == f"{folder}/evaluation/semantic_gray"
    assert option(by_script["benchmark_by_mIoU.py"], "--num_classes") == ("15" if "densepose" in name else "21")
    source = {"voc12_tag": "retrieval", "densepose_point": "points"}.get(name, "softmax")
    assert option(by_script["pseudo_label.py"], "--source") == source
    assert option(by_script["pseudo_label.py"], "--kmeans_num_clusters") == (
        "24,24" if "densepose" in name else "12,12"
    )


def test_tag_rounds() -> None:
    commands = dry("voc12_tag", CAM_DIR="cams")
    labels = [command for command in commands if script_of(command) == "pseudo_label.py"]
    assert [option(command, "--source") for command in labels] == ["cam", "retrieval", "softmax", "retrieval"]
    assert option(labels[0], "--cam_dir") == "cams" and option(labels[2], "--walk_steps") == "1"
    assert option(labels[2], "--snapshot_dir").endswith("stage2_round1")
    memories = [command for command in commands if script_of(command) == "prototype.py"][1:]
    assert [Path(option(memory, "--data_list")).parent.name for memory in memories] == ["pseudo_cam", "pseudo_softmax"]
    assert all(option(memory, "--scales") == "0.5,1,1.5" and "--flip" not in memory for memory in memories)


def test_settings() -> None:
    commands = dry("voc12_box", STAGES="evaluate train", GPUS=4, RELEASED_EVALUATION=1, EXPECT=73.5)
    assert [script_of(command) for command in commands] == ["train.py", *EVALUATE]  # in the pipeline's own order
    assert commands[0][1:4] == ["-m", "torch.distributed.run", "--standalone"] and "--nproc_per_node=4" in commands[0]
    assert "--crf" in commands[1] and "--scales" not in commands[1] and "--flip" not in commands[1]
    assert option(commands[1], "--save_dir") == "snapshots/voc12_box/evaluation_released"
    assert option(commands[-1], "--expect") == "73.5"
    (plain,) = dry("voc12_point", STAGES="evaluate", RELEASED_EVALUATION=1, SNAPSHOTS="out")[:1]
    assert not {"--crf", "--scales", "--flip"} & set(plain) and option(plain, "--snapshot_dir") == "out/stage2"
    (classifier,) = dry(
        "voc12_point", "train.batch_size=2", STAGES="classifier", GPUS=3, CLASSIFIER="train.batch_size=8 train.seed=1"
    )
    assert [word for word in classifier if "batch_size" in word] == [f"train.batch_size={size}" for size in (6, 2, 8)]
    assert "train.seed=1" in classifier


@pytest.mark.parametrize(
    ("settings", "overrides", "expected"),
    [
        ({}, [], "DATAROOT is not set"),
        ({"DATAROOT": "x", "STAGES": "train evalute"}, [], "STAGES: expected some of .*, got evalute"),
        ({"DATAROOT": "x", "GPUS": "two"}, [], "GPUS: expected a whole number of at least 1, got two"),
        ({"DATAROOT": "x"}, ["--crf"], "expected key=value of the config, .*got --crf"),
        ({"DATAROOT": "x"}, ["train.base_rl=1"], "did you mean train.base_lr"),
        ({"DATAROOT": "x", "CFG": "nowhere.yaml"}, [], "config nowhere.yaml"),
        ({"DATAROOT": "x"}, ["dataset.train_data_list=nowhere.txt"], "no data list nowhere.txt"),
    ],
)
def test_mistakes(settings: dict[str, str], overrides: list[str], expected: str) -> None:
    done = pipeline("voc12_scribble", *overrides, **settings)
    assert done.returncode == 1 and not done.stdout
    assert len(done.stderr.splitlines()) == 1
    assert re.search(expected, done.stderr)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="needs shellcheck")
def test_shellcheck() -> None:
    scripts = [str(path.relative_to(ROOT)) for path in (ROOT / "bashscripts").rglob("*.sh")]
    done = subprocess.run(["shellcheck", "-x", *scripts], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def make_cams(data: Path, folder: Path) -> None:
    """CAM files of the tiny training images: high in the object, low around it."""
    for sample in read_list(data / "val.txt", data):
        assert sample.semantic is not None
        mask = read_label(sample.semantic)
        cams = {int(label) - 1: np.where(mask == label, 0.9, 0.05) for label in np.unique(mask[mask > 0])}
        write_cam_file(folder / f"{sample.name}.npy", cams)


def make_boxes(data: Path, folder: Path, classes: list[str]) -> None:
    """VOC annotations of the tiny training images."""
    folder.mkdir()
    for sample in read_list(data / "val.txt", data):
        assert sample.semantic is not None
        mask = read_label(sample.semantic)
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


Runner = Callable[..., subprocess.CompletedProcess]


def train_tiny(run: Runner, name: str, data: Path, config: Path, folder: Path, *extra: str, **more: object) -> Path:
    """All stages of a pipeline on the tiny data; the folder of its results."""
    make_cams(data, folder / "cam")
    overrides = ["train.max_iteration=4", "train.batch_size=2", *extra]
    if name in ("voc12_tag", "voc12_box"):
        overrides.append(f"dataset.train_data_list={cam_list(name.removeprefix('voc12_'), data, folder)}")
    if name == "densepose_point":
        overrides += ["dataset.dataset=Densepose", "train.feat_aff_loss_types=segsort"]
        overrides += ["train.feat_aff_concentration=12", "train.feat_aff_loss_weight=0.5"]
    out = folder / "out"
    settings = {"CFG": config, "DATAROOT": data, "SNAPSHOTS": out, "CAM_DIR": folder / "cam", "GRID": "4,4"}
    settings |= {"CLASSIFIER": "train.max_iteration=3", "OMP_NUM_THREADS": 1, **more}
    if name == "voc12_scribble":  # an interrupted run goes on
        assert run(name, *overrides, STAGES="train", **settings).returncode == 0
    done = run(name, *overrides, **settings)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert ("nothing to do: 4 of 4 steps are done" in done.stdout) == (name == "voc12_scribble")
    for stage, last in (("stage1", 3), ("stage2", 2)):
        assert (out / stage / f"model-{last}.pth").is_file()
    found = json.loads((out / "evaluation/mIoU.json").read_text())
    assert found["num_images"] == 8 and 0 <= found["mean_iou"] <= 100
    assert re.search(rf"^mean +{found['mean_iou']:.2f}$", done.stdout, re.MULTILINE)
    assert len(read_list(out / "pseudo/list.txt", data, columns=3)) == 8
    if name == "voc12_scribble":
        other = run(name, "train.max_iteration=5", **settings)
        assert other.returncode == 1 and "holds a run with other settings" in other.stderr
    print(f"{name}: mean IoU {found['mean_iou']:.1f} %")
    return out


@pytest.mark.parametrize("name", PIPELINES)
def test_end_to_end(name: str, tiny_data: Path, tiny_config_file: Path, tmp_path: Path, inline_refiner: None) -> None:
    train_tiny(Interpreter(tmp_path / "python").pipeline, name, tiny_data, tiny_config_file, tmp_path)


@pytest.mark.slow
def test_several_processes(tiny_data: Path, tiny_config_file: Path, tmp_path: Path, inline_refiner: None) -> None:
    run = Interpreter(tmp_path / "python").pipeline
    train_tiny(run, "voc12_point", tiny_data, tiny_config_file, tmp_path, "train.batch_size=1", GPUS=2)
