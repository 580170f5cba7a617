"""SPML beside its baseline on tiny data: the result, what is kept, and folders of another config."""

import json
import math
import threading
from contextlib import nullcontext

import pytest
import torch

from spml.errors import UserError
from spml.pipelines import compare as comparison
from spml.pipelines.compare import METHODS, compare, compare_runs, plan_runs, summary

CPU = torch.device("cpu")
SHORT = ["train.max_iteration=2", "train.warmup_iteration=1"]


@pytest.fixture(scope="module")
def compared(tiny_config_file, tmp_path_factory):
    """A whole comparison: its folder and result."""
    folder = tmp_path_factory.mktemp("compare")
    return folder, compare(tiny_config_file, folder, [3], overrides=SHORT, device="cpu")


def test_plan_crosses_seeds_and_methods(tiny_config_file, tmp_path):
    runs = plan_runs(tiny_config_file, tmp_path, [0, 5], SHORT)
    assert [(run.method, run.seed) for run in runs] == [(method, seed) for seed in (0, 5) for method in METHODS]
    assert len({run.folder for run in runs}) == 4 and not list(tmp_path.iterdir())
    for run in runs:
        assert run.config.train.seed == run.seed and run.snapshot == run.folder / "model-1.pth"
    spml, baseline = runs[0].config, runs[1].config
    assert (spml.train.task, baseline.train.task) == ("spml", "segmentation")
    assert list(baseline.losses) == ["cross_entropy"] and baseline.losses.cross_entropy.weight == 1
    assert len(spml.losses) == 4
    for section in ("dataset", "network", "test"):
        assert spml[section] == baseline[section]
    assert {name for name in spml.train if spml.train[name] != baseline.train[name]} == {"task"}  # same data and steps
    with pytest.raises(UserError, match="--methods: expected names out of spml, partial_cross_entropy, got 'sml'"):
        plan_runs(tiny_config_file, tmp_path, [0], methods=["sml"])


def test_result_and_what_stays_behind(compared):
    folder, result = compared
    assert result.keys() == {*METHODS, "seconds"}
    for method in METHODS:
        found = result[method]
        assert found.keys() == {"training_seconds", "mean_iou", "retrieval_mean_iou"}  # one seed: no spread
        assert 0 <= found["mean_iou"] <= 100 and 0 <= found["retrieval_mean_iou"] <= 100
        run = folder / method / "seed3"
        assert {"model-1.pth", "model-1.state.pth", "config.yaml", "record.json", "memory"} <= {
            path.name for path in run.iterdir()
        }
        for predictor in ("softmax", "retrieval"):
            assert len(list((run / predictor / "semantic_gray").glob("*.png"))) == 8
        assert json.loads((run / "result" / "outcome.json").read_text())["mean_iou"] == found["mean_iou"]
    assert json.loads((folder / "result.json").read_text()) == result
    assert result["seconds"] > 0 and json.loads(json.dumps(result)) == result


def test_a_finished_comparison_is_read_not_repeated(compared, tiny_config_file, monkeypatch):
    folder, result = compared

    def refuse(*args, **kwargs):
        raise AssertionError("trained again")

    monkeypatch.setattr(comparison, "train", refuse)
    assert compare(tiny_config_file, folder, [3], overrides=SHORT, device="cpu") == result


@pytest.mark.parametrize(("override", "named"), [("train.base_lr=0.5", "base_lr"), ("test.neighbours=3", "neighbours")])
def test_another_config_in_the_folder_is_one_line(compared, tiny_config_file, override, named):
    with pytest.raises(UserError, match=f"other figures of a comparison are here .*{named}"):
        compare(tiny_config_file, compared[0], [3], overrides=[*SHORT, override], device="cpu")


def test_seeds_are_averaged_with_their_spread(compared, tiny_config_file, monkeypatch, tmp_path):
    outcomes = iter([(10.0, 20.0), (1.0, 2.0), (30.0, 24.0), (1.0, 2.0)])

    def outcome(run, device, guard):
        classifier, retrieval = next(outcomes)
        return {"mean_iou": classifier, "retrieval_mean_iou": retrieval, "training_seconds": 2.0, "seconds": 3.0}

    monkeypatch.setattr(comparison, "run_once", outcome)
    result = compare_runs(plan_runs(tiny_config_file, tmp_path, [0, 1], SHORT), CPU)
    spml = result["spml"]
    assert (spml["mean_iou"], spml["retrieval_mean_iou"], result["seconds"]) == (20.0, 22.0, 12.0)
    assert spml["mean_iou_std"] == round(math.sqrt(200), 2) and spml["mean_iou_seeds"] == [10.0, 30.0]
    assert "20.0 +- 14.1" in summary(result) and "partial cross entropy" in summary(result)
    assert "+-" not in summary(compared[1])


def test_an_interrupted_training_ends_the_comparison_and_goes_on(tiny_config_file, tmp_path):
    stop = threading.Event()
    stop.set()
    runs = plan_runs(tiny_config_file, tmp_path, [0], SHORT, ["spml"])
    with pytest.raises(KeyboardInterrupt):
        compare_runs(runs, CPU, lambda: nullcontext(stop))
    assert not list(tmp_path.rglob("outcome.json")) and (tmp_path / "spml/seed0/model-0.pth").is_file()
    assert 0 <= compare_runs(runs, CPU)["spml"]["mean_iou"] <= 100
