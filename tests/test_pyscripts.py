"""Every script of pyscripts/: what a user mistypes is one clear line and an exit status that is not zero."""

import runpy
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
NETWORK = "--cfg_path {config} --snapshot_dir {no} --data_dir {data} --device cpu"
# By script: a command line that is right but for the files that it names. {no} is a path that does not exist.
SCRIPTS = {
    "quickstart.py": "--cfg_path {no} --save_dir {new}",
    "benchmark/benchmark_by_instance.py": "--pred_dir {no} --data_dir {data} --data_list {data}/val.txt",
    "benchmark/benchmark_by_mIoU.py": "--pred_dir {no} --gt_dir {no} --num_classes 4",
    "benchmark/compare.py": "--cfg_path {no} --save_dir {new}",
    "benchmark/quality.py": "--data_dir {data} --data_list {no} --num_classes 4 --labels a={no} --json {new}",
    "data/annotate.py": "--data_dir {data} --data_list {no} --save_dir {new} --kind scribble",
    "data/boxes.py": "--source_dir {no} --save_dir {new}",
    "data/cams.py": "--cam_dir {no} --save_dir {new} --kind tag --image_dir {no}",
    "data/check.py": "--data_dir {no} --dataset voc12",
    "data/lists.py": "--data_dir {no} --dataset voc12 --save_dir {new}",
    "data/masks.py": "--source_dir {no} --save_dir {new}",
    "data/oversegment.py": "--data_dir {data} --data_list {no} --save_dir {new}",
    "data/scribbles.py": "--source_dir {no} --image_dir {no} --save_dir {new}",
    "data/split.py": "--data_list {no}",
    "data/shapes.py": "--save_dir {data}/classes.txt/under_a_file",
    "inference/cam.py": NETWORK + " --save_dir {new} network.prediction_types=cam",
    "inference/inference.py": NETWORK + " --save_dir {new} --predictor softmax",
    "inference/prototype.py": NETWORK + " --save_dir {new}",
    "inference/pseudo_label.py": NETWORK + " --save_dir {new} --source softmax",
    "train/train.py": NETWORK.replace("{no}", "{new}") + " --data_list {no}",
    "train/train_cam.py": NETWORK.replace("{no}", "{new}") + " --data_list {no} network.prediction_types=cam",
    "train/train_classifier.py": NETWORK.replace("{no}", "{new}") + " network.pretrained={no}",
}
CONFIGURED = [name for name, words in SCRIPTS.items() if "--cfg_path" in words]


def ended(name: str, words: list[str], capsys: pytest.CaptureFixture) -> tuple[object, list[str]]:
    """The exit status, and the lines of standard error."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [name, *words])
        with pytest.raises(SystemExit) as stopped:
            runpy.run_path(str(ROOT / "pyscripts" / name), run_name="__main__")
    return stopped.value.code, capsys.readouterr().err.splitlines()


@pytest.fixture
def words(tiny_data: Path, tiny_config_file: Path, tmp_path: Path):
    paths = {"no": tmp_path / "no such", "new": tmp_path / "new", "data": tiny_data, "config": tiny_config_file}
    return lambda name: [word.format(**paths) for word in SCRIPTS[name].split()]


def test_no_script_is_left_out() -> None:
    assert {str(path.relative_to(ROOT / "pyscripts")) for path in (ROOT / "pyscripts").rglob("*.py")} == set(SCRIPTS)


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_path_that_does_not_exist(name: str, words, capsys) -> None:
    status, lines = ended(name, words(name), capsys)
    assert status == 1
    assert len(lines) == 1 and lines[0].startswith("error: "), lines
    assert "no such" in lines[0] or "under_a_file" in lines[0] or "new" in lines[0], lines


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_misspelt_option(name: str, words, capsys) -> None:
    right = words(name)
    cut = [right[0][:-1], *right[1:]]  # no option may be shortened: a later one could mean another thing
    for wrong in ([*right, "--no_such_option", "1"], cut):
        status, lines = ended(name, wrong, capsys)
        assert status == 2 and len(lines) == 1 and lines[0].startswith("error: "), lines
        assert "no_such_option" in lines[-1] or right[0] in lines[-1] or right[0][:-1] in lines[-1]


@pytest.mark.parametrize("name", CONFIGURED)
def test_a_misspelt_key(name: str, words, tiny_config_file: Path, capsys) -> None:
    right = words(name)
    right[right.index("--cfg_path") + 1] = str(tiny_config_file)
    status, lines = ended(name, [*right, "train.base_rl=1"], capsys)
    assert status == 1 and len(lines) == 1 and lines[0].startswith("error: ")
    assert "did you mean train.base_lr" in lines[0]
    status, lines = ended(name, [*right, "word"], capsys)
    assert status == 2 and "unknown argument 'word'" in lines[-1]
