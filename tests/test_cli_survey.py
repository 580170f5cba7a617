"""The page on the training data: printed and kept before a new training, a stop under --strict."""

import pytest

from spml.cli.main import main
from spml.cli.survey import PAGE
from spml.errors import UserError


def words(tiny_config_file, folder, *more):
    own = ["train", "--config", str(tiny_config_file), "--snapshot_dir", str(folder), "--device", "cpu"]
    return [*own, "train.max_iteration=1", "train.warmup_iteration=1", *map(str, more)]


def test_printed_and_kept_once(tiny_config_file, tmp_path, capsys):
    assert main(words(tiny_config_file, tmp_path)) == 0
    told = capsys.readouterr().out
    kept = (tmp_path / PAGE).read_text()
    assert kept in told and "images        8" in kept and "red" in kept and "image_similarity x" in kept
    assert main(words(tiny_config_file, tmp_path, "--resume")) == 0
    assert "red" not in capsys.readouterr().out


def test_strict_stops_before_the_work(tiny_data, tiny_config_file, tmp_path):
    masks = ("--data_list", tiny_data / "val.txt")
    with pytest.raises(UserError, match=r"--strict: 1 warnings? about the data, the first \[full_masks\]"):
        main(words(tiny_config_file, tmp_path, "--strict", *masks))
    assert not list(tmp_path.iterdir())
    assert main(words(tiny_config_file, tmp_path, *masks)) == 0


def test_check_prints_it_without_training(tiny_data, tiny_config_file, capsys):
    own = ["check", "--config", str(tiny_config_file)]
    assert main(own) == 0 and "red" in capsys.readouterr().out
    assert main([*own, "--data_list", str(tiny_data / "val.txt")]) == 1
    assert "warning [full_masks]" in capsys.readouterr().out
    for wrong in ([], ["--dataset", "voc12"], [*own[1:], "--dataset", "voc12"]):
        with pytest.raises(SystemExit) as ended:
            main(["check", *wrong])
        assert ended.value.code == 2


def test_masks_and_pseudo_labels_may_be_full(tiny_data, tiny_config_file, tmp_path, capsys):
    masks = ("--strict", "--data_list", tiny_data / "val.txt")
    supervised = ["train.task=segmentation", "losses=none", "losses.cross_entropy.weight=1"]
    assert main(words(tiny_config_file, tmp_path / "mask", *masks, *supervised)) == 0
    assert "losses        cross_entropy x 1\n" in capsys.readouterr().out
