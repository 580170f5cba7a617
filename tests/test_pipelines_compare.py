"""SPML beside its baseline on tiny data: the result, what is kept, and folders of another config."""

import json
import math
from types import SimpleNamespace

import pytest
import torch

from spml.errors import UserError
from spml.pipelines import compare as comparison
from spml.pipelines.compare import METHODS, compare, plan_runs, summary

CPU = torch.device("cpu")
SHORT = ["train.max_iteration=2", "train.warmup_iteration=1"]


@pytest.fixture(scope="module")
def compared(tiny_config_file, tmp_path_factory):
    """A whole comparison: its folder and result."""
    folder = tmp_path_factory.mktemp("compare")
    return folder, compare(plan_runs(tiny_config_file, folder, [3], SHORT), CPU)


def test_plan_crosses_seeds_and_methods(tiny_config_file, tmp_path):
    runs = plan_runs(tiny_config_file, tmp_path, [0, 5], SHORT)
    assert [(run.method, run.seed) for run in runs] == [(method, seed) for seed in (0, 5) for method in METHODS]
    assert len({run.folder for run in runs}) == 4 and not list(tmp_path.iterdir())
    for run in runs:
        assert run.config.train.seed == run.seed and run.snapshot == run.folder / "model-1.pth"
    spml, baseline = (runs[0].config, runs[1].config)
    assert {"semantic_annotation", "semantic_cooccurrence", "image_similarity", "cross_entropy"} == {*spml.losses}
    assert [*baseline.losses] == ["cross_entropy"] and baseline.train.classifier_gradient
    different = {name for name in spml.train if spml.train[name] != baseline.train[name]}
    assert different <= {"classifier_gradient"}  # same network, data and steps


def test_result_and_what_stays_behind(compared):
    folder, result = compared
    assert result.keys() == {*METHODS, "seconds"}
    for method in METHODS:
        found = result[method]
        assert found.keys() == {"training_seconds", "mean_iou", "retrieval_mean_iou"}  # one seed: no spread
        assert 0 <= found["mean_iou"] <= 100 and 0 <= found["retrieval_mean_iou"] <= 100
        run = folder / method / "seed3"
        assert {"model-1.pth", "model-1.state.pth", "config.yaml", "outcome.json", "memory"} <= {
            path.name for path in run.iterdir()
        }
        for predictor in ("softmax", "retrieval"):
            assert len(list((run / predictor / "semantic_gray").glob("*.png"))) == 8
        record = json.loads((run / "memory" / "memory.json").read_text())
        assert not record["full_masks"] and record["data_list"].endswith("train.txt")  # the weak labels
        assert json.loads((run / "outcome.json").read_text())["mean_iou"] == found["mean_iou"]
    assert result["seconds"] > 0 and json.loads(json.dumps(result)) == result


def test_a_finished_comparison_is_read_not_repeated(compared, tiny_config_file, monkeypatch):
    folder, result = compared

    def refuse(*args, **kwargs):
        raise AssertionError("trained again")

    monkeypatch.setattr(comparison, "train", refuse)
    assert compare(plan_runs(tiny_config_file, folder, [3], SHORT), CPU) == result


def test_another_config_in_the_folder_is_one_line(compared, tiny_config_file):
    runs = plan_runs(tiny_config_file, compared[0], [3], [*SHORT, "train.base_lr=0.5"])
    with pytest.raises(UserError, match="config.yaml.* of another config: expected a folder of its own"):
        compare(runs, CPU)


def test_seeds_are_averaged_with_their_spread(compared, tiny_config_file, monkeypatch, tmp_path):
    outcomes = iter([(10.0, 20.0), (1.0, 2.0), (30.0, 24.0), (1.0, 2.0)])

    def outcome(run, device, guard):
        classifier, retrieval = next(outcomes)
        return {"mean_iou": classifier, "retrieval_mean_iou": retrieval, "training_seconds": 2.0, "seconds": 3.0}

    monkeypatch.setattr(comparison, "run_once", outcome)
    result = compare(plan_runs(tiny_config_file, tmp_path, [0, 1], SHORT), CPU)
    spml = result["spml"]
    assert (spml["mean_iou"], spml["retrieval_mean_iou"], result["seconds"]) == (20.0, 22.0, 12.0)
    assert spml["mean_iou_std"] == round(math.sqrt(200), 2) and spml["mean_iou_seeds"] == [10.0, 30.0]
    assert "20.0 +- 14.1" in summary(result) and "partial cross entropy" in summary(result)
    assert "+-" not in summary(compared[1])


def test_an_interrupted_training_ends_the_comparison(tiny_config_file, tmp_path, monkeypatch):
    monkeypatch.setattr(comparison, "train", lambda *args, **kwargs: SimpleNamespace(finished=False))
    with pytest.raises(KeyboardInterrupt):
        compare(plan_runs(tiny_config_file, tmp_path, [0], SHORT), CPU)
    assert not list(tmp_path.glob("*/*/outcome.json"))
