"""The benchmark command lines, end to end on small files."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from spml.cli.main import command
from spml.errors import UserError
from spml.evaluation import evaluate_folder

ROOT = Path(__file__).parents[1]


def save(path, label, palette=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.asarray(label, dtype=np.uint8))
    if palette is not None:
        image.putpalette(palette)
    image.save(path)


@pytest.fixture
def folders(tmp_path):
    """Two images of 2 x 4 pixels in a folder with a space: class 1 has IoU 3/4 over both, the background 6/7."""
    root = tmp_path / "a b"
    save(root / "gt/x.png", [[0, 0, 1, 1], [0, 255, 1, 255]], palette=list(range(255, -1, -1)) * 3)
    save(root / "gt/y.png", [[0, 0, 0, 1], [255, 255, 255, 255]])
    save(root / "pred/x.png", [[0, 0, 1, 1], [0, 1, 1, 0]])
    save(root / "pred/y.png", [[0, 0, 0, 0], [1, 1, 1, 1]])
    save(root / "pred/extra.png", [[0]])
    save(root / "inst/x.png", [[0, 0, 1, 2], [0, 255, 3, 255]])
    save(root / "inst/y.png", [[0, 0, 0, 1], [255, 255, 255, 255]])
    (root / "names.txt").write_text("background\nsquare\n")
    (root / "list.txt").write_text("img/x.jpg gt/x.png inst/x.png\n")
    return root


def options(folders, *more):
    return [f"--pred_dir={folders / 'pred'}", f"--classes={folders / 'names.txt'}", *map(str, more)]


def test_script_prints_and_writes_per_cent(folders, tmp_path):
    script = ROOT / "pyscripts/benchmark/benchmark_by_mIoU.py"
    arguments = options(folders, "--gt_dir", folders / "gt", "--json", tmp_path / "new/out.json", "--expect", 80)
    done = subprocess.run([sys.executable, script, *arguments], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "square" in done.stdout and "75.00" in done.stdout and "85.71" in done.stdout
    assert "80.36 is within" in done.stdout
    found = json.loads((tmp_path / "new/out.json").read_text())
    assert found["iou"] == {"background": pytest.approx(600 / 7, abs=1e-3), "square": 75.0}
    assert found["mean_iou"] == pytest.approx(80.3571, abs=1e-3) and found["num_images"] == 2
    assert found["pixel_accuracy"] == 90.0
    assert not list((tmp_path / "new").glob("*.tmp"))


def test_scripts_explain_a_mistake_in_one_line(folders, tmp_path):
    script = ROOT / "pyscripts/benchmark/benchmark_by_instance.py"
    arguments = options(folders, "--gt_dir", folders / "nowhere")
    done = subprocess.run([sys.executable, script, *arguments], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr == f"error: no such folder: {folders / 'nowhere'}\n"


def test_expectation_outside_tolerance_is_status_1(folders, capsys):
    arguments = options(folders, "--gt_dir", folders / "gt", "--expect", 80, "--tolerance")
    assert command("evaluate", [*arguments, "0.4"]) == 0
    assert command("evaluate", [*arguments, "0.3"]) == 1
    assert "mean IoU 80.36 is OUTSIDE 80 +- 0.3" in capsys.readouterr().out


def test_a_config_has_lists_classes_and_what_is_expected(folders, tmp_path, capsys):
    (tmp_path / "c.yaml").write_text(
        f"dataset: {{data_dir: '{folders}', classes: '{folders / 'names.txt'}',\n"
        f"  test_data_list: '{folders / 'list.txt'}'}}\n"
        "expected: {split: list, mean_iou: 97, tolerance: 2}\n"
    )
    arguments = ["--pred_dir", str(folders / "pred"), "--config", str(tmp_path / "c.yaml")]
    assert command("evaluate", arguments) == 0
    told = capsys.readouterr().out
    assert "square" in told and "mean IoU 100.00 is OUTSIDE 97 +- 2 on list" in told
    assert command("evaluate", [*arguments, "expected.split=val"]) == 0
    assert "97 is expected on val; this is list" in capsys.readouterr().out
    assert command("evaluate", [*arguments, "--expect", "97"]) == 1
    with pytest.raises(UserError, match="overrides are for --config"):
        command("evaluate", [*arguments[:2], "expected.split=val"])


def test_nothing_to_count_fails_an_expectation_and_is_null_in_json(folders, tmp_path, capsys):
    save(tmp_path / "gt/x.png", np.full((2, 4), 255))
    arguments = options(folders, "--gt_dir", tmp_path / "gt", "--expect", 50, "--tolerance", 100)
    assert command("evaluate", [*arguments, f"--json={tmp_path / 'out.json'}"]) == 1
    assert json.loads((tmp_path / "out.json").read_text())["mean_iou"] is None


def test_by_instance(folders, capsys):
    found = evaluate_folder(folders / "pred", folders / "gt", inst_dir=folders / "inst", classes="ab", by_instance=True)
    assert found.iou[1] == pytest.approx(3 / 4)  # 3 instances of IoU 1, 1 of IoU 0
    patches = evaluate_folder(folders / "pred", folders / "gt", classes="ab", by_instance=True)
    assert patches.iou[1] == pytest.approx(1 / 2)  # one patch in each image
    arguments = options(folders, f"--data_list={folders / 'list.txt'}", f"--data_dir={folders}")
    assert command("evaluate", ["--by_instance", *arguments]) == 0
    with pytest.raises(UserError, match="--inst_dir: only --by_instance reads instances"):
        command("evaluate", [*arguments, f"--inst_dir={folders / 'inst'}"])
    with pytest.raises(UserError, match="--tolerance is for --expect: expected that option, too"):
        command("evaluate", [*arguments, "--tolerance", "3"])
    assert "IoU by instance %" in capsys.readouterr().out


def test_a_list_selects_the_ground_truth(folders):
    found = evaluate_folder(
        folders / "pred", data_list=folders / "list.txt", data_dir=folders, classes="ab", by_instance=True
    )
    assert found.num_images == 1 and found.mean_iou == 1.0


def test_missing_predictions_are_counted_and_named(folders):
    for name in "vwz":
        save(folders / f"gt/{name}.png", [[0]])
    with pytest.raises(UserError, match=r"no prediction for 3 of 5 ground truth files in .* \(v, w, z\); --data_list"):
        evaluate_folder(folders / "pred", folders / "gt")
    with pytest.raises(UserError, match=r"no instance file for 1 of 2"):
        (folders / "inst/y.png").unlink()
        for name in "vwz":
            (folders / f"gt/{name}.png").unlink()
        evaluate_folder(folders / "pred", folders / "gt", inst_dir=folders / "inst")


def test_sizes_that_differ_name_both_files(folders):
    save(folders / "pred/y.png", np.zeros((3, 4)))
    with pytest.raises(UserError, match=r"pred.y\.png is 4 x 3, .*gt.y\.png is 4 x 2"):
        evaluate_folder(folders / "pred", folders / "gt")


def test_folders_without_labels(folders, tmp_path):
    save(tmp_path / "saved/semantic_gray/x.png", [[0]])
    with pytest.raises(UserError, match="did you mean .*semantic_gray"):
        evaluate_folder(tmp_path / "saved", folders / "gt")
    with pytest.raises(UserError, match="give one of them"):
        evaluate_folder(folders / "pred")
    Image.new("RGB", (4, 2)).save(folders / "pred/x.png")
    with pytest.raises(UserError, match="x.png"):
        evaluate_folder(folders / "pred", folders / "gt")


def test_values_that_look_like_classes_are_warned_of(folders, caplog):
    evaluate_folder(folders / "pred", folders / "gt")
    assert not caplog.records
    save(folders / "gt/y.png", [[0, 21, 40, 254], [255, 255, 255, 255]])
    evaluate_folder(folders / "pred", folders / "gt")
    assert "values [21, 40] are none of the 21 classes" in caplog.text


def test_names_are_never_those_of_another_data_set(folders, tmp_path, capsys):
    """A config that says neither classes nor dataset has 21 classes, and they have numbers."""
    (tmp_path / "c.yaml").write_text(f"dataset: {{data_dir: '{folders}', test_data_list: '{folders / 'list.txt'}'}}\n")
    arguments = ["--pred_dir", str(folders / "pred"), "--config", str(tmp_path / "c.yaml")]
    assert command("evaluate", arguments) == 0
    told = capsys.readouterr().out
    assert "class 1" in told and "aeroplane" not in told
    assert command("evaluate", [*arguments, "dataset.dataset=VOC2012"]) == 0
    assert "aeroplane" in capsys.readouterr().out
    assert command("evaluate", [*arguments, "--classes", str(folders / "names.txt")]) == 0
    assert "square" in capsys.readouterr().out
