"""Labels of other weights or options are never taken for those of this run."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from spml.data.lists import read_list
from spml.errors import UserError
from spml.inference.memory import fill_memory
from spml.inference.predictors import build_predictor, load_models, predict_list
from spml.inference.segmenter import Segmenter
from spml.inference.views import ViewPlan
from spml.models import build_classifier, build_embedding_model, save_checkpoint
from spml.propagate import DenseCRF
from spml.pseudo.label import build_source, choose_recipe, label_list
from spml.inference.made_by import describe, mark, mark_of, start_record

CPU = torch.device("cpu")


@pytest.fixture
def snapshots(tiny_config, tmp_path):
    """Two files of different weights."""
    paths = tmp_path / "model-3.pth", tmp_path / "model-4.pth"
    for path in paths:
        save_checkpoint(path, build_embedding_model(tiny_config), build_classifier(tiny_config))
    return paths


@pytest.fixture
def samples(tiny_config):
    return read_list(tiny_config.dataset.train_data_list, tiny_config.dataset.data_dir)[:2]


def softmax(config, snapshot, **plan):
    return build_predictor(config, "softmax", snapshot, replace(ViewPlan.from_config(config), **plan), CPU)


def test_predictions_of_other_weights_or_options_stop_the_run(tiny_config, snapshots, samples, tmp_path):
    out, first = tmp_path / "out", softmax(tiny_config, snapshots[0])
    predict_list(tiny_config, samples[:1], first, out)
    again = build_predictor(tiny_config, "softmax", snapshots[0], first.plan, CPU)
    assert "1 images predicted, 1 were there" in predict_list(tiny_config, samples, again, out)
    second = softmax(tiny_config, snapshots[1])
    with pytest.raises(
        UserError, match=r"out/made_by.json: .*\(predictor.model \"\w{16}\", now \"\w{16}\"\).*--overwrite"
    ):
        predict_list(tiny_config, samples, second, out)
    with pytest.raises(UserError, match=r"\(predictor.plan.flip false, now true\)"):
        predict_list(tiny_config, samples, softmax(tiny_config, snapshots[0], flip=True), out)
    with pytest.raises(UserError, match=r"\(crf null, now {.kind.: .DenseCRF"):
        predict_list(tiny_config, samples, first, out, crf=DenseCRF())
    assert "2 images predicted" in predict_list(tiny_config, samples, second, out, overwrite=True)
    assert "0 images predicted" in predict_list(tiny_config, samples, second, out)


def test_what_overwriting_leaves_when_it_is_interrupted(tmp_path):
    """The new record, and no label of the old one."""
    (tmp_path / "semantic_gray").mkdir()
    start_record(tmp_path, {"k": 1}, overwrite=False)
    for name in "ab":
        Image.fromarray(np.zeros((2, 2), np.uint8)).save(tmp_path / "semantic_gray" / f"{name}.png")
    start_record(tmp_path, {"k": 1}, overwrite=True)
    assert len(list((tmp_path / "semantic_gray").iterdir())) == 2
    with pytest.raises(UserError, match="k 1, now 2"):
        start_record(tmp_path, {"k": 2}, overwrite=False)
    start_record(tmp_path, {"k": 2}, overwrite=True)
    assert not list((tmp_path / "semantic_gray").iterdir())
    assert json.loads((tmp_path / "made_by.json").read_text()) == {"k": 2}


def test_labels_that_no_record_speaks_of_stay(tmp_path):
    (tmp_path / "semantic_gray").mkdir()
    Image.fromarray(np.zeros((2, 2), np.uint8)).save(tmp_path / "semantic_gray" / "a.png")
    start_record(tmp_path, {}, overwrite=False)
    assert [path.name for path in (tmp_path / "semantic_gray").iterdir()] == ["a.png"]
    (tmp_path / "made_by.json").write_text("{")
    with pytest.raises(UserError, match="cannot read .*made_by.json"):
        start_record(tmp_path, {}, overwrite=False)


def test_pseudo_labels_of_other_options_stop_the_run(tiny_config, snapshots, samples, tmp_path):
    out, plan = tmp_path / "out", choose_recipe("softmax", walk_steps=0).plan(tiny_config)

    def label(snapshot, **options):
        source = build_source(tiny_config, "softmax", snapshot, plan, CPU, samples, walk_steps=0)
        return label_list(tiny_config, samples, source, out, **options)

    label(snapshots[0])
    assert "0 images labelled" in label(snapshots[0])
    with pytest.raises(UserError, match="source.views.model"):
        label(snapshots[1])
    with pytest.raises(UserError, match=r"\(walk_steps 0, now 2\)"):
        label(snapshots[0], walk_steps=2)


def test_a_memory_of_other_weights_stops_the_run(tiny_config, snapshots, samples, tmp_path):
    def fill(snapshot, some, **options):
        model, _ = load_models(tiny_config, snapshot, CPU, with_classifier=False)
        segmenter = Segmenter.from_config(tiny_config, model, ViewPlan.from_config(tiny_config), CPU)
        return fill_memory(tiny_config, some, segmenter, tmp_path / "memory", **options)

    fill(snapshots[0], samples)
    with pytest.raises(UserError, match="another memory .snapshot_sha256"):
        fill(snapshots[1], samples)
    fill(snapshots[1], samples[:1], overwrite=True)
    assert len(list((tmp_path / "memory" / "semantic_prototype").iterdir())) == 1


def test_the_content_counts_not_where_it_lies(tiny_config, snapshots, tmp_path):
    model = build_embedding_model(tiny_config)
    assert mark_of(model) is None
    mark(model, snapshots[0])
    copy = tmp_path / "copy.pth"
    copy.write_bytes(snapshots[0].read_bytes())
    first = describe({"model": model, "crf": DenseCRF(backend="torch", device=CPU)})
    mark(model, copy)
    assert describe({"model": model, "crf": DenseCRF()}) == first
    assert describe(torch.ones(2)) == describe(torch.ones(2)) != describe(torch.zeros(2))
