"""The tiny network, location features, parameter groups and the classifier: sizes, closed forms, edges."""

import pytest
import torch
from easydict import EasyDict

from spml.errors import UserError
from spml.models import build_classifier, build_embedding_model, split_parameters
from spml.models.location import LocalFeatures


def make_config(backbone="panoptic_deeplab_tiny", dataset="VOC2012"):
    return EasyDict(
        network={"backbone_types": backbone, "embedding_dim": 64},
        dataset={"dataset": dataset, "num_classes": 5},
    )


@pytest.fixture(scope="module")
def tiny():
    return build_embedding_model(make_config()).eval()


def test_tiny_is_small_and_named_like_the_others(tiny):
    assert sum(parameter.numel() for parameter in tiny.parameters()) < 2_000_000
    assert {key.split(".")[0] for key in tiny.state_dict()} == {"resnet_backbone", "aspp"}
    assert {key.split(".")[1] for key in tiny.backbone.state_dict(prefix="x.")} == {"conv1", "res2", "res3", "res4"}


@pytest.mark.parametrize("size", [(1, 1), (7, 13), (8, 9), (96, 96), (65, 97)])
@torch.inference_mode()
def test_stride_is_four_for_any_size(tiny, size):
    image = torch.randn(2, 3, *size)
    assert tiny.backbone(image).shape[2:] == (-(-size[0] // 8), -(-size[1] // 8))
    embedding = tiny(image)
    assert embedding.shape == (2, 64, 2 * -(-size[0] // 8), 2 * -(-size[1] // 8))
    assert embedding.isfinite().all()
    assert tiny(image, size).shape == (2, 64, *size)


@torch.inference_mode()
def test_size_resizes_the_stride_four_map(tiny):
    image = torch.randn(1, 3, 32, 32)
    coarse, fine = tiny(image), tiny(image, (16, 16))
    # Corners not aligned: of twice the size, cell 1 lies a quarter cell from coarse cell 0.
    torch.testing.assert_close(fine[..., 0, 0], coarse[..., 0, 0])
    expected = 0.75 * coarse[..., 0, 0] + 0.25 * coarse[..., 0, 1]
    torch.testing.assert_close(fine[..., 0, 1], expected, atol=1e-4, rtol=1e-4)


def test_wrong_image_is_named(tiny):
    with pytest.raises(ValueError, match=r"expected \(B, 3, H, W\), got \(2, 1, 8, 8\)"):
        tiny(torch.zeros(2, 1, 8, 8))


def test_location_is_y_then_x(tiny):
    location = tiny.location(torch.zeros(2, 3, 9, 9), (3, 5))
    assert location.shape == (2, 3, 5, 2)
    for y in range(3):
        for x in range(5):
            expected = torch.tensor([y / 2 - 0.5, x / 4 - 0.5])
            torch.testing.assert_close(location[:, y, x], expected.expand(2, 2))


def test_colour_by_loops():
    features, image = LocalFeatures(), torch.randn(2, 3, 9, 8)
    offsets = [(y, x) for y in range(-2, 3) for x in range(-2, 3)]
    total = sum((y * y + x * x) ** 0.5 for y, x in offsets)
    expected = torch.zeros(2, 3, 5, 4)
    for row in range(5):
        for column in range(4):
            for y, x in offsets:
                weight = (y * y + x * x) ** 0.5 / total
                expected[..., row, column] += weight * image[..., row + 2 + y, column + 2 + x]
    expected -= expected.mean((2, 3), keepdim=True)
    expected /= expected.abs().amax((2, 3), keepdim=True)
    local = features(image, (5, 4))
    torch.testing.assert_close(local[..., 2:].permute(0, 3, 1, 2), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("size", [(1, 1), (3, 9), (12, 12)])
def test_colour_of_small_and_plain_images_is_finite(size):
    model = build_embedding_model(make_config(dataset="Densepose"))
    for image in (torch.ones(1, 3, *size), torch.randn(1, 3, *size)):
        local = model.location(image, (4, 4))
        assert local.shape == (1, 4, 4, 5)
        assert local.isfinite().all()
        assert local.abs().max() <= 1
    assert not any(name.startswith("lfn") for name, _ in model.named_parameters())  # fixed, never trained


@pytest.mark.parametrize("freeze_stem", [False, True])
def test_every_parameter_has_one_group(tiny, freeze_stem):
    groups = split_parameters(tiny, freeze_stem)
    names = {id(parameter): name for name, parameter in tiny.named_parameters()}
    grouped = {group: {names[id(parameter)] for parameter in members} for group, members in groups.items()}
    assert list(grouped) == ["backbone_weight", "backbone_bias", "head_weight", "head_bias"]
    left_out = set(names.values()) - set().union(*grouped.values())
    assert sum(map(len, grouped.values())) == len(names) - len(left_out)
    frozen = ("resnet_backbone.conv1.", "resnet_backbone.res2.")
    assert left_out == {name for name in names.values() if freeze_stem and name.startswith(frozen)}
    assert "resnet_backbone.res3.0.bn1.bias" in grouped["backbone_bias"]
    assert "resnet_backbone.res3.0.bn1.weight" in grouped["backbone_weight"]
    assert all(name.startswith("aspp.") and name.endswith(".bias") for name in grouped["head_bias"])


def test_classifier_is_all_head():
    groups = split_parameters(build_classifier(make_config()), freeze_stem=True)
    assert [len(members) for members in groups.values()] == [0, 0, 3, 2]


def test_initial_deviation():
    model = build_embedding_model(make_config("panoptic_deeplab_50"))
    weight = model.get_parameter("resnet_backbone.res5.0.conv2.weight")
    assert weight.std().item() == pytest.approx((2 / (9 * 512)) ** 0.5, rel=0.01)
    assert model.get_parameter("aspp.aspp_4.0.weight").std().item() == pytest.approx((2 / (9 * 64)) ** 0.5, rel=0.01)
    assert not model.get_parameter("aspp.aspp_4.0.bias").any()


def test_momentum_of_batch_norm():
    def momenta(backbone, *args):
        modules = build_embedding_model(make_config(backbone), *args).backbone.modules()
        return {module.momentum for module in modules if isinstance(module, torch.nn.BatchNorm2d)}

    assert momenta("panoptic_deeplab_tiny") == {0.1}
    assert momenta("panoptic_deeplab_50") == {3e-4}
    assert momenta("panoptic_pspnet_50", 0.1) == {0.1}


def test_unknown_backbone_lists_the_known():
    with pytest.raises(UserError, match="network.backbone_types.*panoptic_deeplab_tiny.*'resnet'"):
        build_embedding_model(make_config("resnet"))


def test_classifier_ignores_length_and_drops_as_told():
    classifier = build_classifier(make_config(), dropout=0.65)
    assert classifier.semantic_classifier[3].p == 0.65
    embedding = torch.randn(2, 64, 3, 4)
    classifier.eval()
    torch.testing.assert_close(classifier(embedding), classifier(7 * embedding))
    assert classifier(embedding).shape == (2, 5, 3, 4)
    assert classifier(torch.zeros(1, 64, 1, 1)).isfinite().all()


@pytest.mark.parametrize("autocast", [False, True])
def test_channels_last_and_bf16_train(autocast):
    model, classifier = build_embedding_model(make_config(dataset="Densepose")), build_classifier(make_config())
    image = torch.randn(2, 3, 33, 31)
    reference = model.eval()(image)
    model = model.to(memory_format=torch.channels_last)
    image = image.to(memory_format=torch.channels_last)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        embedding = model(image)
        assert model.location(image, embedding.shape[2:]).dtype == torch.float32
        tolerance = 0.05 if autocast else 1e-4
        assert (embedding.float() - reference).abs().max() <= tolerance * reference.abs().max()
        loss = classifier(model.train()(image)).float().square().mean()
    loss.backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in model.parameters())
