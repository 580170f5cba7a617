"""CAM networks: shapes, what the logits are, what the snapshot machinery says of them."""

import pytest
import torch
from torch import nn

from spml.config import load_config
from spml.errors import UserError
from spml.models import (
    CheckpointError,
    build_cam_model,
    build_embedding_model,
    load_cam_model,
    load_checkpoint,
    save_checkpoint,
)
from spml.models.checkpoint import save_parts

TINY = ["network.backbone_types=panoptic_deeplab_tiny", "dataset.num_classes=4"]


def config(kind, *overrides):
    return load_config(None, [*TINY, f"network.prediction_types={kind}", *overrides])


@pytest.mark.parametrize("kind", ["cam", "seam"])
@pytest.mark.parametrize(("size", "cells"), [((33, 40), (5, 5)), ((8, 8), (1, 1)), ((1, 3), (1, 1))])
def test_shapes_and_logits(kind, size, cells):
    model = build_cam_model(config(kind)).eval()
    image = torch.randn(2, 3, *size)
    out = model(image)
    assert out.activation.shape == (2, 3, *cells)
    torch.testing.assert_close(out.logit, out.activation.mean((2, 3)))
    features = model.resnet_backbone(image)  # the classification weights on the last features, no bias
    weight = model.class_weight.weight[:, :, 0, 0]
    torch.testing.assert_close(out.activation, torch.einsum("kc,bchw->bkhw", weight, features))
    found = model.maps(image)
    assert not found.requires_grad and found.min() >= 0
    torch.testing.assert_close(found, out.activation.relu() if kind == "cam" else out.refined)


def test_seam_of_a_released_backbone_is_as_wide_as_published():
    model = build_cam_model(config("seam", "network.backbone_types=panoptic_deeplab_101"))
    shapes = {name: tuple(p.shape) for name, p in model.named_parameters() if "correlation" in name}
    assert shapes == {
        "pixel_correlation.middle.weight": (64, 512, 1, 1),
        "pixel_correlation.late.weight": (128, 1024, 1, 1),
        "pixel_correlation.mix.weight": (192, 195, 1, 1),
    }
    assert sum(isinstance(layer, nn.Conv2d) for layer in model.modules()) == 3 + 4 + 33 * 3 + 1 + 3


def test_stages_end_with_what_the_backbone_returns():
    model = build_cam_model(config("cam")).eval()
    image = torch.randn(1, 3, 40, 32)
    stages = model.resnet_backbone.stages(image)
    assert tuple(s.shape[1] for s in stages) == model.resnet_backbone.channels
    torch.testing.assert_close(stages[-1], model.resnet_backbone(image))


def test_known_tags_leave_the_others_out_of_the_competition():
    model = build_cam_model(config("seam")).eval()
    image, tag = torch.randn(2, 3, 48, 48), torch.tensor([[1, 0, 0], [0, 0, 0]], dtype=torch.bool)
    free, known = model(image), model(image, tag)
    torch.testing.assert_close(free.activation, known.activation)
    assert not known.refined[1].any() and not known.refined[0, 1:].any()
    assert (known.refined[0, 0] >= free.refined[0, 0] - 1e-6).all()


def test_refined_maps_of_parts_equal_those_of_one_piece(monkeypatch):
    model = build_cam_model(config("seam")).eval()
    image = torch.randn(1, 3, 64, 72)
    whole = model.maps(image)
    monkeypatch.setattr("spml.models.pixel_correlation.ROWS", 10)
    torch.testing.assert_close(model.maps(image), whole)


def test_snapshots(tmp_path):
    cam, seam = config("cam"), config("seam")
    model = build_cam_model(cam)
    save_parts(tmp_path / "cam.pth", {"cam_model": model})
    content = torch.load(tmp_path / "cam.pth", weights_only=True)
    assert content["embedding_model"] == content["prediction_model"] == {} and content["cam_model"]
    with pytest.raises(CheckpointError, match="expected the weights of embedding_model in it; found cam_model"):
        load_checkpoint(tmp_path / "cam.pth", build_embedding_model(cam))
    loaded = load_cam_model(cam, tmp_path / "cam.pth")
    assert not loaded.training
    for name, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value)
    with pytest.raises(CheckpointError, match="does not fit CamModel.*3 missing: pixel_correlation.middle.weight"):
        load_cam_model(seam, tmp_path / "cam.pth")
    with pytest.raises(CheckpointError, match=r"class_weight.weight expected \(8, 192, 1, 1\) got \(3, 192, 1, 1\)"):
        load_cam_model(config("cam", "dataset.num_classes=9"), tmp_path / "cam.pth")
    save_checkpoint(tmp_path / "embedding.pth", build_embedding_model(cam))
    with pytest.raises(CheckpointError, match="1 missing: class_weight.weight; .* unexpected: aspp"):
        load_cam_model(cam, tmp_path / "embedding.pth")


def test_an_imagenet_backbone_fills_the_backbone_alone(tmp_path):
    """Under the names of the released file; the classification weights stay as they were."""
    source, target = build_cam_model(config("seam")), build_cam_model(config("seam"))
    state = {}
    for name, value in source.resnet_backbone.state_dict().items():
        stage, _, rest = name.partition(".")
        state[rest if stage == "conv1" else f"layer{int(stage[3:]) - 1}.{rest}"] = value
    torch.save({**state, "fc.weight": torch.zeros(3)}, tmp_path / "imagenet.pth")
    before = target.class_weight.weight.clone()
    assert "ImageNet backbone" in load_checkpoint(tmp_path / "imagenet.pth", target)
    for name, value in source.resnet_backbone.state_dict().items():
        assert torch.equal(target.resnet_backbone.state_dict()[name], value), name
    assert torch.equal(target.class_weight.weight, before)


def test_snapshots_of_older_versions_have_another_name_for_it(tmp_path):
    model = build_cam_model(config("cam"))
    save_checkpoint(tmp_path / "older.pth", model)  # under embedding_model
    loaded = load_cam_model(config("cam"), tmp_path / "older.pth")
    assert torch.equal(loaded.class_weight.weight, model.class_weight.weight)


@pytest.mark.parametrize(("kind", "task"), [("segsort", "spml"), ("softmax_classifier", "classifier")])
def test_another_kind_of_network_is_named(kind, task):
    with pytest.raises(UserError, match=rf"train.task: expected cam or seam or ppc .*, got '{task}'"):
        build_cam_model(config(kind))


def test_wrong_images_are_named():
    with pytest.raises(ValueError, match=r"expected \(B, 3, H, W\), got \(3, 8, 8\)"):
        build_cam_model(config("cam"))(torch.randn(3, 8, 8))
