"""Every regulariser of the table: finite, with a graph, blind to padding and void, whole over two processes."""

import re
from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest
import torch
import yaml
from loss_inputs import in_two_processes, make_inputs

from spml.config.settings import keys_of
from spml.losses import TABLE

NAMES = (
    "entropy",
    "neighbour",
    "gated_crf",
    "dense_crf",
    "normalised_cut",
    "kernel_cut",
    "tree_energy",
    "gaussian_mixture",
)
ENTRIES = {name: TABLE[name] for name in NAMES}
every_entry = pytest.mark.parametrize("loss", ENTRIES.values(), ids=ENTRIES.keys())
READS_EMBEDDING = ("tree_energy", "gaussian_mixture")


def value_and_gradients(loss, inputs, **changed):
    """The raw value, and its gradients with respect to scores and embedding (zero where it does not reach)."""
    settings = loss.settings(**changed)
    value = loss.function(inputs, settings)
    leaves = (inputs.logit, inputs.embedding)
    gradients = torch.autograd.grad(value, leaves, allow_unused=True)
    return value, [torch.zeros_like(x) if g is None else g for x, g in zip(leaves, gradients, strict=True)]


@every_entry
def test_declares_its_settings(loss):
    assert is_dataclass(loss.settings) and loss.settings.__dataclass_params__.frozen
    assert fields(loss.settings)[0].name == "weight"
    for key in keys_of(loss.settings).values():
        assert key.kind.read(key.default) == key.default and key.help
    assert loss.help and "\n" not in loss.help


@every_entry
def test_has_a_page(loss):
    """With the settings that it has when nobody says otherwise."""
    (name,) = [name for name, entry in ENTRIES.items() if entry is loss]
    page = (Path(__file__).resolve().parents[1] / "docs" / "methods" / f"{name}.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    assert yaml.safe_load(example)["losses"][name] == {
        key: value.default for key, value in keys_of(loss.settings).items()
    }


@every_entry
def test_reads_only_what_it_declares(loss):
    """Everything else raises."""
    inputs = make_inputs()

    class Few:
        def __getattr__(self, name):
            if name not in (*loss.inputs, "exchange"):
                raise AssertionError(f"reads {name}")
            return getattr(inputs, name)

    loss.function(Few(), loss.settings())


@every_entry
@pytest.mark.parametrize("small", ((6, 8), (12, 16), (3, 5)))
def test_is_a_finite_scalar_with_gradient(loss, small):
    value, (logit, embedding) = value_and_gradients(loss, make_inputs(small=small))
    assert value.shape == () and value.dtype == torch.float32 and value.isfinite()
    assert logit.isfinite().all() and logit.abs().sum() > 0
    assert embedding.isfinite().all()
    assert (embedding.abs().sum() > 0) == any(ENTRIES[name] is loss for name in READS_EMBEDDING)


@every_entry
def test_colours_of_padding_and_void_change_nothing(loss):
    """At the same size, where no cell holds both kinds of pixels."""
    inputs, other = make_inputs(small=(12, 16)), make_inputs(small=(12, 16))
    other.rgb = torch.where(other.valid[:, None], other.rgb, 255 * torch.rand_like(other.rgb))
    value, gradients = value_and_gradients(loss, inputs)
    expected, reference = value_and_gradients(loss, other)
    assert value == expected
    for ours, theirs in zip(gradients, reference, strict=True):
        assert torch.equal(ours, theirs)


@every_entry
def test_scores_of_padding_and_void_change_nothing(loss):
    """Scores and embedding at the crop's size; every regulariser then reads valid pixels alone."""
    at_crop = {"scale": 1.0} if "scale" in keys_of(loss.settings) else {}
    inputs, other = make_inputs(small=(12, 16)), make_inputs(small=(12, 16))
    with torch.no_grad():
        for leaf in (other.logit, other.embedding):
            leaf.copy_(torch.where(other.valid[:, None], leaf, torch.randn_like(leaf)))
    value, gradients = value_and_gradients(loss, inputs, **at_crop)
    expected, _ = value_and_gradients(loss, other, **at_crop)
    torch.testing.assert_close(value, expected)
    for gradient in gradients:
        assert not gradient.permute(1, 0, 2, 3)[:, ~inputs.valid].any()


@every_entry
def test_nothing_counts_where_nothing_is_valid(loss):
    inputs = make_inputs()
    inputs.label[:], inputs.valid[:] = 255, False
    inputs.tag[:] = False
    value, gradients = value_and_gradients(loss, inputs)
    assert value == 0 and all(not gradient.any() for gradient in gradients)


@every_entry
@pytest.mark.parametrize("case", ("no label", "one image without valid pixels", "one class", "one pixel", "one row"))
def test_edge_cases_are_finite(loss, case):
    classes = 1 if case == "one class" else 4
    size = {"one pixel": (1, 1), "one row": (1, 16)}.get(case, (12, 16))
    inputs = make_inputs(classes=classes)
    if case.startswith("one pixel") or case == "one row":
        inputs = make_inputs(size=(12, 16), small=size)
        for name in ("label", "valid", "inside", "rgb"):
            setattr(inputs, name, getattr(inputs, name)[..., 3 : 3 + size[0], : size[1]].contiguous())
    if case == "no label":
        inputs.label[inputs.label < 254], inputs.tag[:] = 254, False
    if case == "one image without valid pixels":
        inputs.label[0], inputs.valid[0] = 255, False
    value, gradients = value_and_gradients(loss, inputs)
    assert value.isfinite() and all(gradient.isfinite().all() for gradient in gradients)


@every_entry
def test_certain_scores_are_finite(loss):
    """Softmax of 1e4 is one or zero, and its logarithm would not be finite."""
    inputs = make_inputs()
    inputs.logit = (1e4 * inputs.logit.detach()).requires_grad_()
    value, gradients = value_and_gradients(loss, inputs)
    assert value.isfinite() and all(gradient.isfinite().all() for gradient in gradients)


@every_entry
def test_two_processes_are_one(loss):
    """The shares of two processes sum to the loss of the whole batch, and so do their gradients."""
    inputs = make_inputs(batch=4)
    value, gradients = value_and_gradients(loss, inputs)
    shares = in_two_processes(lambda part: loss.function(part, loss.settings()), inputs)
    torch.testing.assert_close(sum(shares), value, rtol=1e-4, atol=1e-6)
    leaves = (inputs.logit, inputs.embedding)
    halves = torch.autograd.grad(sum(shares), leaves, allow_unused=True)
    for ours, expected in zip(halves, gradients, strict=True):
        torch.testing.assert_close(torch.zeros_like(expected) if ours is None else ours, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.gpu
@every_entry
def test_on_cuda(loss):
    inputs = make_inputs()
    value, gradients = value_and_gradients(loss, inputs)
    for name in ("label", "rgb", "valid", "inside", "tag"):
        setattr(inputs, name, getattr(inputs, name).cuda())
    for name in ("logit", "embedding"):
        setattr(inputs, name, getattr(inputs, name).detach().cuda().requires_grad_())
    ours, ours_gradients = value_and_gradients(loss, inputs)
    torch.testing.assert_close(ours.cpu(), value, rtol=1e-4, atol=1e-5)
    for a, b in zip(ours_gradients, gradients, strict=True):
        torch.testing.assert_close(a.cpu(), b, rtol=1e-3, atol=1e-5)
