"""Every backbone and head of the tables: declared strides and channels on odd sizes, gradients, names."""

import sys

import pytest
import torch
from easydict import EasyDict
from torch import nn

from spml.errors import UserError
from spml.models import BACKBONES, HEADS, build_backbone, build_embedding_model, find_backbone, split_parameters
from spml.models.backbones.base import Options

TIMM = (
    "timm:mobilenetv3_small_050",
    "timm:mobilenetv4_conv_small_035",
    "timm:resnet10t",
    "timm:convnext_atto",
    "timm:regnety_002",
    "timm:vit_tiny_patch16_224",
    "timm:vit_small_patch14_reg4_dinov2",
)
HEAVY = ("101", "dinov2")  # their numbers are tested on one small image, not on every size
SIZES = ((1, 1), (7, 50), (33, 65), (64, 96))


def needs_timm(name):
    if name.startswith("timm:"):
        pytest.importorskip("timm", reason="needs the extra `pretrained`")


def config(backbone="panoptic_deeplab_tiny", **network):
    return EasyDict(
        network={"backbone_types": backbone, "embedding_dim": 8, **network},
        dataset={"dataset": "VOC2012", "num_classes": 5},
    )


@pytest.fixture(scope="module", params=[*BACKBONES, *TIMM])
def backbone(request):
    needs_timm(request.param)
    return request.param, build_backbone(config(request.param)).eval()


@torch.inference_mode()
def test_a_backbone_gives_what_its_entry_declares(backbone):
    name, encoder = backbone
    entry = find_backbone(name)
    assert (encoder.channels, encoder.strides) == (entry.channels, entry.strides)
    assert entry.help
    assert entry.weights
    assert entry.head in HEADS
    assert len(entry.mean) == len(entry.std) == 3
    for size in SIZES[1:2] if any(word in name for word in HEAVY) else SIZES:
        maps = encoder.stages(torch.randn(2, 3, *size))
        expected = [
            (2, channels, -(-size[0] // stride), -(-size[1] // stride))
            for channels, stride in zip(entry.channels, entry.strides, strict=True)
        ]
        assert [tuple(x.shape) for x in maps] == expected
        assert all(x.isfinite().all() for x in maps)


def test_the_stem_is_a_part_of_a_backbone(backbone):
    _, encoder = backbone
    groups = {freeze: split_parameters(encoder, freeze) for freeze in (False, True)}
    count = {freeze: sum(len(members) for members in found.values()) for freeze, found in groups.items()}
    assert 0 < count[True] < count[False] == len(list(encoder.parameters()))
    assert not groups[True]["head_weight"]


def test_a_frozen_backbone_stays_as_it_is(backbone):
    name, encoder = backbone
    if any(word in name for word in HEAVY):
        pytest.skip("the same code as the smaller ones of its family")
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    encoder.freeze(everything=True)
    encoder.train()
    assert not any(x.requires_grad for x in encoder.stages(torch.randn(2, 3, 64, 64)))
    assert not any(members for members in split_parameters(encoder, False).values())
    assert all(torch.equal(value, before[key]) for key, value in encoder.state_dict().items())
    encoder.freeze()
    encoder.eval()


@pytest.mark.parametrize("name", ["panoptic_deeplab_tiny", "timm:tf_efficientnet_lite0"])
def test_frozen_batch_norms_keep_their_statistics_and_learn_the_rest(name):
    needs_timm(name)
    model = build_embedding_model(config(name, freeze_bn=True)).train()
    before = {key: value.clone() for key, value in model.backbone.state_dict().items()}
    model(torch.randn(2, 3, 32, 32)).sum().backward()
    assert all(torch.equal(value, before[key]) for key, value in model.backbone.state_dict().items())
    norms = [layer for layer in model.backbone.modules() if isinstance(layer, nn.BatchNorm2d)]
    assert norms
    assert all(layer.weight.grad is not None for layer in norms)
    assert model.head.training


def fits(name):
    """A small backbone whose maps the head allows."""
    if name.startswith("fcn"):
        return "timm:tf_efficientnet_lite0"
    return "segnet" if name == "segnet" else "panoptic_deeplab_tiny"


@pytest.mark.parametrize("name", HEADS)
def test_a_head_gives_an_embedding_of_its_stride_and_a_gradient_to_everything(name):
    needs_timm(fits(name))
    entry = HEADS[name]
    encoder = build_backbone(config(fits(name)))
    head = entry.build(encoder, 8, 16)
    stride = entry.stride(encoder.strides)
    for height, width in ((64, 96), (40, 72)):
        embedding = head(encoder.stages(torch.randn(2, 3, height, width)))
        assert embedding.shape[:2] == (2, 8)
        for pixels, cells in zip((height, width), embedding.shape[2:], strict=True):
            # What reaches over the image's border is cut by the embedding model.
            assert 0 <= cells - -(-pixels // stride) < max(1, 32 // stride)
    assert entry.help
    embedding.square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in head.parameters())
    assert all(p.grad is not None for p in encoder.parameters())


@pytest.mark.parametrize("name", HEADS)
@torch.inference_mode()
def test_the_embedding_has_stride_four_under_every_head(name):
    needs_timm(fits(name))
    model = build_embedding_model(config(fits(name), head=name, joined_dim=16)).eval()
    for height, width in ((1, 1), (9, 50), (33, 64)):
        embedding = model(torch.randn(2, 3, height, width))
        assert embedding.shape == (2, 8, 2 * -(-height // 8), 2 * -(-width // 8))
        assert embedding.isfinite().all()
    assert model(torch.randn(1, 3, 32, 32), (32, 32)).shape == (1, 8, 32, 32)


@pytest.mark.parametrize("backbone", ["timm:vit_tiny_patch16_224", "timm:resnet10t"])
@torch.inference_mode()
def test_default_head_of_timm_joins_its_levels(backbone):
    needs_timm(backbone)
    model = build_embedding_model(config(backbone, joined_dim=16)).eval()
    assert {key.split(".")[0] for key in model.state_dict()} == {"backbone", "head"}
    assert model(torch.randn(1, 3, 50, 35)).shape == (1, 8, 14, 10)


def test_output_stride_and_levels():
    pytest.importorskip("timm")
    dilated = build_backbone(config("timm:resnet10t", output_stride=8))
    assert dilated.strides == (2, 4, 8, 8, 8)
    assert dilated.eval()(torch.randn(1, 3, 33, 48)).shape[2:] == (5, 6)
    some = build_backbone(config("timm:resnet10t", levels=[1, 2]))
    assert some.strides == (4, 8)
    assert sum(p.numel() for p in some.parameters()) < sum(p.numel() for p in dilated.parameters())
    tokens = build_backbone(config("timm:vit_tiny_patch16_224", output_stride=8, levels=[3])).eval()
    assert [tuple(x.shape) for x in tokens.stages(torch.randn(1, 3, 20, 32))] == [(1, 192, 3, 4)]
    tiny = build_backbone(config(levels=[0, 2]))
    assert (tiny.channels, tiny.strides) == ((64, 192), (4, 8))


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (
            {"backbone_types": "panoptic_deeplab_100"},
            "expected one of panoptic_deeplab_101, .*did you mean panoptic_deeplab_10",
        ),
        ({"backbone_types": "timm:resnet19"}, "timm.list_models.*'resnet19'; did you mean timm:resnet1"),
        ({"head": "aspp_smal"}, "network.head: expected one of aspp, .* got 'aspp_smal'; did you mean aspp_small"),
        ({"head": "fcn8"}, "network.head: fcn8 needs a map of stride 32, .* have 4, 8, 8"),
        ({"head": "segnet"}, "network.head: segnet undoes max-pools .* segnet alone"),
        ({"head": "unet", "levels": [2]}, "network.head: unet needs maps of two strides"),
        ({"output_stride": 16}, "network.output_stride: expected 8, .* got 16"),
        ({"levels": [0, 1]}, r"network.levels: expected growing numbers of 0..2, 2 among them, got \[0, 1\]"),
        ({"levels": [2, 1]}, "network.levels: expected growing"),
        ({"backbone_types": "timm:resnet10t", "levels": [5]}, "network.levels: expected growing numbers of 0..4, got"),
        ({"backbone_types": "timm:swin_tiny_patch4_window7_224", "output_stride": 8}, "cannot be built with"),
    ],
)
def test_what_cannot_be_says_what_can(network, message):
    network = {"backbone_types": "panoptic_deeplab_tiny", **network}
    needs_timm(network["backbone_types"])
    with pytest.raises(UserError, match=message) as error:
        build_embedding_model(config(**({"backbone": network.pop("backbone_types")} | network)))
    assert "\n" not in str(error.value)


def test_momentum_of_batch_norms_is_set_where_it_is_asked_for():
    for name in ("panoptic_deeplab_tiny", "segnet"):
        encoder = find_backbone(name).build(Options(bn_momentum=0.25))
        momenta = {layer.momentum for layer in encoder.modules() if isinstance(layer, nn.BatchNorm2d)}
        assert momenta == {0.25}


def test_without_timm_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UserError, match="needs the package timm: pip install timm"):
        find_backbone("timm:resnet18d")
    assert find_backbone("timm:tf_efficientnet_lite0").mean == (0.5, 0.5, 0.5)  # a config loads without timm
