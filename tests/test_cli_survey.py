"""The page on the training data: printed and kept before a new training, a stop under --strict."""

import shutil

import numpy as np
import pytest
from PIL import Image

from spml.cli.main import main
from spml.cli.survey import PAGE, print_drawn
from spml.config import load_config
from spml.data.lists import read_list
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
    with pytest.raises(UserError, match=r"--strict: a warning about the data, \[full_masks\]"):
        main(words(tiny_config_file, tmp_path, "--strict", *masks))
    assert not list(tmp_path.iterdir())
    assert main(words(tiny_config_file, tmp_path, *masks)) == 0


def test_check_prints_it_without_training(tiny_data, tiny_config_file, capsys):
    own = ["check", "--config", str(tiny_config_file)]
    assert main(own) == 0 and "red" in capsys.readouterr().out
    assert main([*own, "--data_list", str(tiny_data / "val.txt")]) == 1
    assert "warning [full_masks]" in capsys.readouterr().out
    swapped = tiny_data / "swapped.txt"
    lines = [line.split() for line in (tiny_data / "train.txt").read_text().splitlines()]
    swapped.write_text("".join(f"{label} {image}\n" for image, label, *_ in lines))
    with pytest.raises(UserError, match=r"swapped.txt line 1: the columns of image and label look swapped"):
        main([*own, "--data_list", str(swapped)])
    for wrong in ([], ["--dataset", "voc12"], [*own[1:], "--dataset", "voc12"]):
        with pytest.raises(SystemExit) as ended:
            main(["check", *wrong])
        assert ended.value.code == 2


def test_masks_and_pseudo_labels_may_be_full(tiny_data, tiny_config_file, tmp_path, capsys):
    masks = ("--strict", "--data_list", tiny_data / "val.txt")
    supervised = ["train.task=segmentation", "losses=none", "losses.cross_entropy.weight=1"]
    assert main(words(tiny_config_file, tmp_path / "mask", *masks, *supervised)) == 0
    assert "losses        cross_entropy x 1\n" in capsys.readouterr().out


def test_check_needs_no_config(tiny_data, tmp_path, capsys):
    names = tmp_path / "classes.txt"
    names.write_text("road\nred\ngreen\nblue\n")
    own = ["check", "--data_dir", str(tiny_data), "--data_list", str(tiny_data / "train.txt")]
    assert main([*own, "--classes", str(names)]) == 0
    told = capsys.readouterr().out
    assert "0 road" in told and "note: class 0 (road) counts as background" in told and "losses" not in told
    assert main([*own, "--classes", str(names), "dataset.background=none"]) == 0
    assert "note" not in capsys.readouterr().out
    with pytest.raises(UserError, match="--classes: expected a file of class names"):
        main(own)
    assert main([*own, "dataset.num_classes=4"]) == 0


def test_labels_that_the_package_made_may_be_full(tiny_data, tiny_config_file, tmp_path, capsys):
    from spml import records

    masks = tiny_data / "val.txt"
    label = tiny_data / masks.read_text().split()[1]
    records.start(label.parent, records.record_of("labels of CAMs", {}, {}), made=())
    try:
        assert main(["check", "--config", str(tiny_config_file), "--data_list", str(masks)]) == 0
    finally:
        (label.parent / "record.json").unlink()


def test_drawn_labels_are_looked_at_before_they_spread(tiny_config_file, tiny_data, tmp_path, capsys):
    """Afterwards no mistake shows: here a class beyond the names, painted 9."""
    shutil.copytree(tiny_data, tmp_path / "data")
    for path in (tmp_path / "data" / "weak").glob("*.png"):
        label = np.array(Image.open(path))
        Image.fromarray(np.where(label == 2, 9, label).astype(np.uint8)).save(path)
    config = load_config(tiny_config_file, [f"dataset.data_dir={tmp_path / 'data'}"])
    data_list = str(tmp_path / "data" / "train.txt")
    samples = read_list(data_list, tmp_path / "data")
    print_drawn(config, data_list, samples, tmp_path / "spread")
    assert "warning [values_beyond]" in capsys.readouterr().out
    (tmp_path / "spread" / "list.txt").write_text("done")
    print_drawn(config, data_list, samples, tmp_path / "spread")
    assert capsys.readouterr().out == ""
    print_drawn(config, data_list, samples, tmp_path / "spread", again=True)
    assert "warning [values_beyond]" in capsys.readouterr().out
