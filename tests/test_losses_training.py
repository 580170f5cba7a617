"""Regularisers in training: beside partial cross-entropy, beside SPML, in one sum, as their pages say; many classes."""

import re
import shlex
from pathlib import Path

import pytest
import torch
from loss_inputs import make_inputs

from spml.config import load_config
from spml.config.settings import defaults_of
from spml.data.dataset import build_training_loader
from spml.engine.run import build_task
from spml.losses import TABLE

PAGES = Path(__file__).resolve().parents[1] / "docs" / "methods"
# Those that read no segments, cross-entropy itself left out.
REGULARISERS = [name for name, loss in TABLE.items() if name != "cross_entropy" and "segments" not in loss.inputs]
BASELINE = ["train.task=segmentation", "losses=none", "losses.cross_entropy.weight=1"]
RELATIONS = {"semantic_annotation", "semantic_cooccurrence", "image_similarity"}


def losses_of(config):
    """The raw terms of a batch; their weighted sum has a finite gradient for every trained weight."""
    torch.manual_seed(0)
    task = build_task(config)
    terms = task(next(iter(build_training_loader(config, task.needs))))
    total = torch.stack([task.weights[name] * value for name, value in terms.items()]).sum()
    total.backward()
    for name, parameter in task.named_parameters():
        assert not parameter.requires_grad or parameter.grad.isfinite().all(), name
    assert set(terms) == set(task.weights) == set(config.losses)
    return terms


def switched_on(*names):
    return [f"losses.{name}.weight={defaults_of(TABLE[name].settings)['weight']}" for name in names]


@pytest.mark.parametrize("name", REGULARISERS)
def test_alone_beside_cross_entropy_as_its_page_says(name, tiny_config_file):
    """The page's command, on other data; a sum with cross-entropy leaves both terms as they are alone."""
    (command,) = re.findall(r"```bash\n(spml train .*?)```", (PAGES / f"{name}.md").read_text(), re.DOTALL)
    overrides = [word for word in shlex.split(command.replace("\\\n", " ")) if "=" in word]
    config = load_config(tiny_config_file, overrides)
    assert config == load_config(tiny_config_file, [*BASELINE, *switched_on(name)])
    terms = losses_of(config)
    assert list(terms) == ["cross_entropy", name]
    assert terms["cross_entropy"] == losses_of(load_config(tiny_config_file, BASELINE))["cross_entropy"]


@pytest.mark.parametrize("name", REGULARISERS)
def test_beside_spml(name, tiny_config_file):
    assert RELATIONS | {"cross_entropy", name} == set(losses_of(load_config(tiny_config_file, switched_on(name))))


@pytest.mark.parametrize("own", ([], BASELINE), ids=("spml", "cross-entropy"))
def test_all_in_one_sum(own, tiny_config_file):
    """Each term is what it is alone: none changes what another reads."""
    terms = losses_of(load_config(tiny_config_file, [*own, *switched_on(*REGULARISERS)]))
    for name in REGULARISERS:
        alone = losses_of(load_config(tiny_config_file, [*own, *switched_on(name)]))[name]
        torch.testing.assert_close(terms[name], alone)


def test_all_on_densepose_and_without_a_background(tiny_config_file):
    """Classes are those of the config, whatever they mean."""
    for own in (["dataset.dataset=Densepose"], ["dataset.background=none"], ["dataset.background=2"]):
        losses_of(load_config(tiny_config_file, [*BASELINE, *own, *switched_on(*REGULARISERS)]))


@pytest.mark.parametrize("classes", (2, 150))
@pytest.mark.parametrize("name", REGULARISERS)
def test_any_number_of_classes(name, classes):
    inputs = make_inputs(classes=classes)
    value = TABLE[name].function(inputs, TABLE[name].settings())
    (gradient,) = torch.autograd.grad(value, inputs.logit)
    assert value.isfinite() and gradient.isfinite().all() and gradient.any()
