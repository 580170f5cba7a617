"""AffinityNet's and IRN's networks on any backbone: sizes, gradients, and the weights that they start from."""

import pytest
import torch

from spml.config import load_config
from spml.errors import UserError
from spml.models import build_cam_model
from spml.models.affinity import (
    AffinityModel,
    IrnModel,
    build_affinity_model,
    build_irn_model,
    load_affinity_model,
    load_irn_model,
    load_start,
)
from spml.models.backbones.base import Encoder
from spml.models.checkpoint import CheckpointError, save_parts

BACKBONES = ["panoptic_deeplab_tiny", "panoptic_pspnet_50", "segnet", "timm:tf_efficientnet_lite0"]
BACKBONES += ["timm:vit_tiny_patch16_224"]  # maps of one stride, which is coarser than both models' own
SIZES = [(40, 48), (33, 57), (1, 1), (9, 70)]


def config_of(config_file, backbone="panoptic_deeplab_tiny", *more):
    if backbone.startswith("timm:"):
        pytest.importorskip("timm")
    return load_config(config_file, [f"network.backbone_types={backbone}", *more])


class Maps(Encoder):
    """Maps of given strides."""

    def __init__(self, strides):
        super().__init__([8 * stride for stride in strides], strides)

    def maps(self, image):
        height, width = image.shape[-2:]
        return [torch.rand(len(image), 8 * s, -(-height // s), -(-width // s)) for s in self.strides]


@pytest.mark.parametrize("backbone", BACKBONES)
def test_maps_of_every_backbone(tiny_config_file, backbone):
    config = config_of(tiny_config_file, backbone)
    affinity, irn = build_affinity_model(config).eval(), build_irn_model(config).eval()
    for height, width in SIZES if backbone == BACKBONES[0] else SIZES[:2]:
        image = torch.randn(2, 3, height, width)
        with torch.no_grad():
            feature, (edge, displacement) = affinity(image), irn(image)
            assert torch.equal(irn.edges(image), edge)
        assert feature.shape == (2, 448, -(-height // 8), -(-width // 8)) and feature.min() >= -1
        assert edge.shape == (2, -(-height // 4), -(-width // 4))
        assert displacement.shape == (2, 2, *edge.shape[1:])
        for found in (feature, edge, displacement):
            assert torch.isfinite(found).all()


@pytest.mark.parametrize("strides", [(4, 8, 8), (2, 4, 8, 16, 32), (16, 16, 16), (8, 8, 8, 8), (2, 2, 4)])
def test_any_strides(strides):
    image = torch.randn(1, 3, 37, 50)
    assert AffinityModel(Maps(strides))(image).shape == (1, 448, 5, 7)
    edge, displacement = IrnModel(Maps(strides))(image)
    assert edge.shape == (1, 10, 13) and displacement.shape == (1, 2, 10, 13)


def test_published_widths(tiny_config_file):
    """On the levels of ResNet-50 as published, with a stem's map at stride 2."""
    model = AffinityModel(Maps((4, 8, 8, 8)))
    assert [layer.out_channels for layer in model.first] == [64, 128, 256] and model.last.out_channels == 448
    assert all(p.ndim == 4 for p in [*model.first.parameters(), *model.last.parameters()])  # no bias
    irn = IrnModel(Maps((2, 4, 8, 16, 16)))
    assert irn.edge_last.in_channels == 160
    assert [branch[0].out_channels for branch in irn.displacement] == [64, 128, 256, 256, 256]
    assert [branch[1].num_groups for branch in irn.displacement] == [4, 8, 16, 16, 16]
    assert irn.displacement_coarse[0].in_channels == 768 and irn.displacement_last[0][0].in_channels == 448


def test_every_weight_of_both_learns(tiny_config_file):
    config = config_of(tiny_config_file)
    for model in (build_affinity_model(config), build_irn_model(config)):
        found = model(torch.randn(2, 3, 32, 32))
        sum(part.square().sum() for part in (found if isinstance(found, tuple) else (found,))).backward()
        assert all(p.grad is not None and p.grad.any() for p in model.parameters())


def test_untrained_edges_are_open(tiny_config_file):
    """Near one half: where they begin near one or zero, they hardly learn."""
    for strides in ((4, 8, 8), (2, 4, 8, 16, 32)):
        edge, displacement = IrnModel(Maps(strides))(torch.randn(2, 3, 64, 64))
        assert edge.abs().mean() < 2 and displacement.abs().mean() < 2


def test_affinitynet_needs_three_maps(tiny_config_file):
    with pytest.raises(UserError, match="AffinityNet needs 3 maps of the backbone, which gives 2 with network.levels"):
        build_affinity_model(config_of(tiny_config_file, "panoptic_deeplab_tiny", "network.levels=[1,2]"))
    build_irn_model(config_of(tiny_config_file, "panoptic_deeplab_tiny", "network.levels=[2]"))
    for model in (AffinityModel(Maps((4, 8, 8))), IrnModel(Maps((4, 8)))):
        with pytest.raises(ValueError, match=r"image: expected \(B, 3, H, W\), got \(3, 8, 8\)"):
            model(torch.randn(3, 8, 8))


def test_snapshots(tiny_config_file, tmp_path):
    config = config_of(tiny_config_file)
    affinity, irn = build_affinity_model(config), build_irn_model(config)
    save_parts(tmp_path / "model-0.pth", {"affinity_model": affinity})
    save_parts(tmp_path / "model-1.pth", {"irn_model": irn})
    for loaded, model in (
        (load_affinity_model(config, tmp_path / "model-0.pth"), affinity),
        (load_irn_model(config, tmp_path / "model-1.pth"), irn),
    ):
        assert not loaded.training
        assert all(torch.equal(value, model.state_dict()[key]) for key, value in loaded.state_dict().items())
    with pytest.raises(CheckpointError, match="affinity_model: expected a dict of weights|expected the weights of aff"):
        load_affinity_model(config, tmp_path / "model-1.pth")


def test_a_network_of_cams_gives_its_backbone(tiny_config_file, tmp_path):
    config = config_of(tiny_config_file)
    cam = build_cam_model(load_config(tiny_config_file, ["network.prediction_types=cam"]))
    save_parts(tmp_path / "model-7.pth", {"cam_model": cam})
    torch.manual_seed(3)
    model = build_irn_model(config)
    head = {key: value.clone() for key, value in model.state_dict().items() if not key.startswith("resnet_backbone.")}
    told = load_start(str(tmp_path), model, "irn_model")
    assert "the backbone of its cam_model" in told and "\n" not in told
    for key, value in model.state_dict().items():
        before = head.get(key)
        assert torch.equal(value, cam.state_dict()[key] if before is None else before), key
    assert load_start("", model, "irn_model") == ""
    save_parts(tmp_path / "model-8.pth", {"irn_model": model})
    assert "snapshot, irn_model" in load_start(str(tmp_path / "model-8.pth"), build_irn_model(config), "irn_model")
    with pytest.raises(UserError, match="network.pretrained .*nowhere.*: expected a snapshot"):
        load_start(str(tmp_path / "nowhere"), model, "irn_model")
    other = config_of(tiny_config_file, "panoptic_deeplab_50")
    with pytest.raises(CheckpointError, match="does not fit ResNet"):
        load_start(str(tmp_path / "model-7.pth"), build_affinity_model(other), "affinity_model")
    torch.save({"embedding_model": {}, "prediction_model": {}, "cam_model": 5}, tmp_path / "model-9.pth")
    with pytest.raises(CheckpointError, match="irn_model: expected a dict of weights"):
        load_start(str(tmp_path / "model-9.pth"), model, "irn_model")
