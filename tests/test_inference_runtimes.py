"""What computes a network: folded, tiled, by another library, it gives what it gave."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from spml import records
from spml.config import load_config
from spml.data.lists import read_list
from spml.errors import UserError
from spml.inference.folded import folded
from spml.inference.loading import load
from spml.inference.runtimes import RUNTIMES, for_inference, networks_for_inference
from spml.inference.winograd import Winograd, fits, pays
from spml.models import build_classifier, build_embedding_model, save_checkpoint

CPU = torch.device("cpu")
NETWORKS = ["panoptic_deeplab_tiny", "panoptic_deeplab_tiny+unet", "panoptic_deeplab_tiny+psp", "segnet"]
TIMM = ["timm:resnet18+deeplab_v3plus", "timm:tf_efficientnet_lite0", "timm:mobilenetv3_small_100"]


def build(name):
    backbone, _, head = name.partition("+")
    if backbone.startswith("timm:"):
        pytest.importorskip("timm")
    words = [f"network.backbone_types={backbone}", "network.embedding_dim=8", "dataset.num_classes=4"]
    config = load_config(None, [*words, *([f"network.head={head}"] if head else [])])
    model, classifier = build_embedding_model(config), build_classifier(config)
    for network in (model, classifier):  # statistics as after training: a fold that ignores them is wrong
        for part in network.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.running_mean.normal_(0, 0.2), part.running_var.uniform_(0.5, 2), part.bias.data.normal_(0, 0.2)
    return model.eval(), classifier.eval()


@pytest.mark.parametrize(("dilation", "size"), [(1, (9, 4)), (2, (16, 21)), (3, (5, 1)), (4, (30, 33))])
@pytest.mark.parametrize("relu", [False, True])
@torch.no_grad()
def test_tiles_are_the_convolution(dilation, size, relu):
    """Beside the direct sum in float64."""
    weight, bias = torch.randn(5, 3, 3, 3, dtype=torch.float64), torch.randn(5, dtype=torch.float64)
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    padded = F.pad(x, (dilation,) * 4)
    expected = bias[:, None, None].expand(2, 5, *size).clone()
    for row in range(3):
        for column in range(3):
            part = padded[..., row * dilation :, column * dilation :][..., : size[0], : size[1]]
            expected += torch.einsum("oc,bchw->bohw", weight[:, :, row, column], part)
    expected = expected.relu() if relu else expected
    found = Winograd(weight.float(), bias.float(), dilation, relu)(x.float())
    assert found.shape == expected.shape
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=5e-4)


def test_many_strips_and_no_bias():
    weight, x = torch.randn(4, 2, 3, 3), torch.randn(1, 2, 70, 200)
    torch.testing.assert_close(Winograd(weight, None, 1, False)(x), F.conv2d(x, weight, padding=1), rtol=0, atol=5e-4)


def test_which_convolutions_go_by_tiles():
    assert fits(nn.Conv2d(128, 256, 3, padding=2, dilation=2)) and pays(64, 64, 2)
    assert not fits(nn.Conv2d(128, 128, 3, padding=1, stride=2)) and not fits(nn.Conv2d(128, 128, 3))
    assert not fits(nn.Conv2d(64, 128, 3, padding=1)) and not fits(nn.Conv2d(128, 128, 1))
    assert not fits(nn.Conv2d(128, 128, 3, padding=1, groups=128))
    assert not pays(8, 8, 1) and not pays(64, 64, 24)


@pytest.mark.parametrize("name", NETWORKS + TIMM)
@torch.no_grad()
def test_folded_networks_give_the_same(name):
    model, classifier = build(name)
    fast, scorer = networks_for_inference(model, classifier, CPU, "folded")
    left = [part for part in folded(model).modules() if type(part) is nn.BatchNorm2d]
    assert len(left) <= 1  # of the head `joined`, which no convolution precedes
    for shape in ((1, 3, 37, 45), (2, 3, 70, 91), (1, 3, 1, 1)):
        image = torch.randn(shape)
        one, other = model(image, shape[2:]), fast(image, shape[2:])
        torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-4 * float(one.abs().max()))
        torch.testing.assert_close(scorer(one), classifier(one), rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_wide_layers_go_by_tiles():
    """Bottlenecks of 128 channels on a map that fills the tiles."""
    config = load_config(None, ["network.backbone_types=panoptic_deeplab_50", "network.embedding_dim=8"])
    stage = build_embedding_model(config).eval().backbone.res3
    fast = folded(stage)
    assert sum(isinstance(part, Winograd) for part in fast.modules()) == 3  # the first has stride 2
    x = torch.randn(1, 256, 66, 70)
    one, other = stage(x), fast(x)
    torch.testing.assert_close(other, one, rtol=0, atol=1e-4 * float(one.abs().max()))


def test_records_tell_a_runtime_as_the_network(tiny_config_file):
    config = load_config(tiny_config_file)
    model = build_embedding_model(config).eval()
    same = for_inference(model, CPU, "folded")
    assert records.hash_weights(same) == records.hash_weights(model)
    assert records.hash_weights(for_inference(model, CPU, "bf16")) != records.hash_weights(model)


@pytest.mark.parametrize("runtime", [name for name in RUNTIMES if name != "torch"])
def test_predictions_of_each_runtime(tiny_config_file, tmp_path, runtime):
    for package in {"onnx": ("onnx", "onnxruntime"), "openvino": ("onnx", "openvino")}.get(runtime, ()):
        pytest.importorskip(package)
    config = load_config(tiny_config_file)
    save_checkpoint(tmp_path / "model-3.pth", build_embedding_model(config), build_classifier(config))
    image = read_list(config.dataset.test_data_list, config.dataset.data_dir)[0].image
    one, other = (load(tmp_path, config, "cpu", runtime=name).predict(image) for name in ("torch", runtime))
    assert (one.label == other.label).mean() >= (0.9 if runtime == "bf16" else 0.999)
    assert abs(one.probability - other.probability).max() < (0.05 if runtime == "bf16" else 1e-4)


def test_what_cannot_be_computed(tiny_config_file, monkeypatch):
    model = build_embedding_model(load_config(tiny_config_file))
    with pytest.raises(UserError, match="--runtime: expected one of auto, torch, .*got 'fast'"):
        for_inference(model, CPU, "fast")
    with pytest.raises(UserError, match="--runtime folded: expected --device cpu, got cuda"):
        for_inference(model, torch.device("cuda"), "folded")
    monkeypatch.setattr("spml.inference.runtimes.folded", lambda network: lambda *inputs: 2 * network(*inputs))
    with pytest.raises(UserError, match="--runtime folded: expected the network's values to 0.001 of the largest"):
        for_inference(model, CPU, "folded")
    assert for_inference(model, CPU, "auto") is model
    monkeypatch.setattr("spml.inference.runtimes.can_fold", lambda: False)
    assert for_inference(model, CPU, "auto") is model
    with pytest.raises(UserError, match="--runtime bf16: needs a PyTorch with oneDNN"):
        for_inference(model, CPU, "bf16")
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    with pytest.raises(UserError, match="needs the package onnx: pip install .*extra `export`"):
        for_inference(model, CPU, "onnx")
