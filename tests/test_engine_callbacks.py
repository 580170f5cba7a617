"""What a run shows: TensorBoard's scalars and pictures, the progress bar, and silence of the other processes."""

import numpy as np
import pytest
import torch

from spml.config import load_config
from spml.engine import distributed, loop
from spml.engine.callbacks import Monitor, short

pytest.importorskip("tensorboard")
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # noqa: E402

CPU = torch.device("cpu")


def records(folder):
    found = EventAccumulator(str(folder / "tensorboard"))
    found.Reload()
    return found


def test_scalars_and_pictures_of_a_run(tiny_config_file, tmp_path, capsys):
    overrides = ["train.max_iteration=3", "train.warmup_iteration=1", "train.tensorboard_step=2", "train.log_step=1"]
    config = load_config(tiny_config_file, overrides)
    loop.train(config, tmp_path, CPU)
    found = records(tmp_path)
    terms = ("total", "semantic_annotation", "semantic_cooccurrence", "image_similarity", "cross_entropy")
    assert {*found.Tags()["scalars"]} == {*(f"loss/{name}" for name in terms), "learning_rate"}
    value = {name: found.Scalars(f"loss/{name}") for name in terms}
    assert [[event.step for event in events] for events in value.values()] == [[1]] * len(terms)
    train = config.train
    weight = (1.0, train.sem_ann_loss_weight, train.sem_occ_loss_weight, train.img_sim_loss_weight)
    last = [value[name][0].value for name in terms]  # raw terms; the total is their weighted sum
    assert last[0] == pytest.approx(np.dot((*weight[1:], train.sem_ann_loss_weight), last[1:]), rel=1e-5)
    rate = found.Scalars("learning_rate")[0].value
    assert rate == pytest.approx(loop.learning_rate(train, 1), rel=1e-6)
    (picture,) = found.Images("batch")
    assert picture.step == 1 and picture.width > 5 * 32 and picture.height >= 32
    shown = capsys.readouterr().err
    assert "embedding" in shown and "total=" in shown and "images/s" in shown and "3/3" in shown


def test_stage_2_has_its_records_too(tiny_config_file, tmp_path):
    short_run = ["train.max_iteration=1", "train.warmup_iteration=0", "train.tensorboard_step=1"]
    loop.train(load_config(tiny_config_file, short_run), tmp_path / "one", CPU)
    second = load_config(tiny_config_file, [*short_run, f"network.pretrained={tmp_path / 'one'}"])
    loop.train(second, tmp_path / "two", CPU, stage="classifier")
    found = records(tmp_path / "two")
    assert {*found.Tags()["scalars"]} == {"loss/total", "loss/cross_entropy", "learning_rate"}
    assert len(found.Images("batch")) == 1


def test_other_processes_are_silent(tiny_config, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(distributed, "rank", lambda: 1)
    monitor = Monitor(tiny_config, tmp_path, 0, "embedding")
    monitor.record(0, {}, None, {}, None)
    monitor.close()
    assert capsys.readouterr() == ("", "") and not list(tmp_path.iterdir())


def test_initials_of_terms():
    assert [short(name) for name in ("total", "semantic_annotation", "cross_entropy")] == ["total", "sa", "ce"]
