"""What a run shows: TensorBoard's scalars and pictures, the progress, validation, callbacks of one's own."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from spml.config import load_config
from spml.data.lists import read_list
from spml.engine import callbacks, distributed
from spml.engine.callbacks import Progress, short
from spml.engine.run import train
from spml.engine.schedule import learning_rate
from spml.errors import UserError
from spml.evaluation.folders import evaluate_folder
from spml.inference.predictors import build_predictor, predict_list
from spml.inference.views import ViewPlan

CPU = torch.device("cpu")
SHORT = ["train.max_iteration=2", "train.warmup_iteration=0"]


def records(folder):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder / "tensorboard"))
    found.Reload()
    return found


def steps(folder):
    return [event.step for event in records(folder).Scalars("loss/total")]


def test_scalars_and_pictures_of_a_run(tiny_config_file, tmp_path, capsys):
    overrides = ["train.max_iteration=3", "train.warmup_iteration=1", "train.tensorboard_step=2"]
    config = load_config(tiny_config_file, overrides)
    run = train(config, tmp_path, device="cpu")
    found = records(tmp_path)
    terms = ("total", *config.losses)
    assert {*found.Tags()["scalars"]} == {*(f"loss/{name}" for name in terms), "learning_rate"}
    assert len(terms) == 5 and steps(tmp_path) == [0, 1, 2]  # a run this short is recorded whole
    for step, record in enumerate(run.history):
        assert record["step"] == step
        value = {name: found.Scalars(f"loss/{name}")[step].value for name in terms}
        assert value == pytest.approx({name: record[name] for name in terms})
        weighted = [config.losses[name].weight * value[name] for name in terms[1:]]  # terms are raw
        assert value["total"] == pytest.approx(np.sum(weighted), rel=1e-5)
        rate = found.Scalars("learning_rate")[step].value
        assert rate == pytest.approx(learning_rate(config.train, step), rel=1e-6)
    picture = found.Images("batch")[0]
    assert picture.width > 5 * 32 and picture.height >= 32
    assert "spml 3/3: total=" in capsys.readouterr().err


def test_long_runs_are_recorded_now_and_then_and_at_their_end(tiny_config_file, tmp_path):
    config = load_config(tiny_config_file, ["train.max_iteration=100", "train.tensorboard_step=30"])
    record = dict.fromkeys(["step", "total"], 0.0)
    seen = []
    board = callbacks.TensorBoard(config, tmp_path, 0, None)
    board._sheet = lambda step, task: seen.append(step) or np.zeros((4, 4, 3), np.uint8)
    for step in range(100):
        board(step, record, SimpleNamespace(weights={}))
    board.close()
    assert seen == steps(tmp_path) == [9, 19, 29, 39, 49, 59, 69, 79, 89, 99]


def test_every_task_has_pictures(tiny_config_file, tmp_path):
    train(load_config(tiny_config_file, SHORT), tmp_path / "spml", device="cpu")
    for kind in ("softmax_classifier", "cam", "seam"):
        overrides = [*SHORT, f"network.prediction_types={kind}"]
        overrides += [f"network.pretrained={tmp_path / 'spml'}"] if kind == "softmax_classifier" else []
        train(load_config(tiny_config_file, overrides), tmp_path / kind, device="cpu")
        assert len(records(tmp_path / kind).Images("batch")) == 2


def test_a_log_file_gets_a_line_each_half_minute(tiny_config_file, monkeypatch, capsys):
    config = load_config(tiny_config_file, ["train.max_iteration=100"])
    now = iter(np.arange(0, 1e6, 4.0))  # the clock is read a few times a step
    monkeypatch.setattr(callbacks, "time", SimpleNamespace(monotonic=lambda: float(next(now))))
    progress = Progress(config, 0)
    for step in range(100):
        progress(step, {"step": step, "total": 1.5, "cross_entropy": 0.25}, None)
    progress.close()
    lines = capsys.readouterr().err.splitlines()
    assert 10 <= len(lines) <= 20 and lines[-1].startswith("spml 100/100: total=1.500, ce=0.250, ")
    assert "images/s, 0:00:00 left" in lines[-1] and not any("\r" in line for line in lines)


def test_a_terminal_gets_a_bar(tiny_config_file, monkeypatch, capsys):
    config = load_config(tiny_config_file, ["train.max_iteration=4", "train.log_step=2"])
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    progress = Progress(config, 1)
    for step in range(1, 4):
        progress(step, {"step": step, "total": 1.5}, None)
    progress.close()
    found = capsys.readouterr().err
    assert "spml: 100%" in found and "4/4" in found and "total=1.500" in found


def test_own_callbacks_see_every_step_and_add_to_the_history(tiny_config_file, tmp_path):
    class Mine:
        closed = 0

        def __call__(self, step, losses, task):
            assert {"step", "total", "cross_entropy"} <= {*losses} and task.name == "spml"
            return {"mine": 10.0 * step}

        def close(self):
            self.closed += 1

    mine, seen = Mine(), []
    after = lambda step, losses, task: seen.append((step, losses["mine"]))  # noqa: E731
    run = train(load_config(tiny_config_file, SHORT), tmp_path, callbacks=[mine, after], device="cpu")
    assert [record["mine"] for record in run.history] == [0.0, 10.0] and seen == [(0, 0.0), (1, 10.0)]
    assert mine.closed == 1
    assert [event.value for event in records(tmp_path).Scalars("mine")] == [0.0, 10.0]


def test_validation_is_what_prediction_and_evaluation_say(tiny_config_file, tiny_data, tmp_path):
    overrides = [
        "train.max_iteration=5",
        "train.warmup_iteration=0",
        "train.validation_step=2",
        "train.snapshot_step=2",
    ]
    config = load_config(tiny_config_file, [*overrides, "test.image_size=44", "test.scales=1"])
    run = train(config, tmp_path, device="cpu")
    found = {record["step"]: record.get("validation_mean_iou") for record in run.history}
    assert {step for step, value in found.items() if value is not None} == {1, 3, 4}
    for step in (1, 4):
        predictor = build_predictor(
            config, "softmax", tmp_path / f"model-{step}.pth", ViewPlan.from_config(config), CPU
        )
        samples = read_list(config.dataset.test_data_list, config.dataset.data_dir)
        predict_list(config, samples, predictor, tmp_path / f"predicted{step}")
        scores = evaluate_folder(
            tmp_path / f"predicted{step}" / "semantic_gray",
            data_list=config.dataset.test_data_list,
            data_dir=config.dataset.data_dir,
            num_classes=4,
            classes=config.dataset.class_names,
            progress=False,
        )
        assert found[step] == pytest.approx(float(scores.mean_iou), abs=1e-6)
    without = train(
        load_config(tiny_config_file, [*overrides, "train.validation_step=0"]), tmp_path / "b", device="cpu"
    )
    ours = [{k: v for k, v in record.items() if k != "validation_mean_iou"} for record in run.history]
    assert ours == without.history  # it changes nothing of the training
    assert records(tmp_path).Scalars("validation_mean_iou")[-1].value == pytest.approx(found[4])


def test_validation_without_masks_or_classifier_is_one_line(tiny_config_file, tmp_path):
    for overrides, message in (
        (["dataset.test_data_list="], "no data list is given"),
        (["network.prediction_types=cam"], "train.validation_step: the task cam has no classifier, expected 0"),
    ):
        config = load_config(tiny_config_file, [*SHORT, "train.validation_step=1", *overrides])
        with pytest.raises(UserError, match=message):
            train(config, tmp_path, device="cpu")


def test_other_processes_are_silent(tiny_config, tmp_path, monkeypatch):
    from contextlib import ExitStack

    from spml.engine import run

    monkeypatch.setattr(distributed, "rank", lambda: 1)
    with ExitStack() as stack:
        assert run._callbacks(stack, tiny_config, tmp_path, 0, None, None, [print]) == []


def test_initials_of_terms():
    assert [short(name) for name in ("total", "semantic_annotation", "cross_entropy")] == ["total", "sa", "ce"]
