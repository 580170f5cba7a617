"""Backbones and heads as a config names them: normalisation of the weights, what is refused, every name is accepted."""

import pytest

from spml.config import ConfigError, load_config, save_config
from spml.models import BACKBONES, HEADS

LITE0 = "network.backbone_types=timm:tf_efficientnet_lite0"


@pytest.mark.parametrize("name", BACKBONES)
def test_every_backbone_of_the_table_can_be_named(name):
    config = load_config(overrides=[f"network.backbone_types={name}"])
    assert (tuple(config.network.pixel_means), tuple(config.network.pixel_stds)) == (
        BACKBONES[name].mean,
        BACKBONES[name].std,
    )


@pytest.mark.parametrize("name", HEADS)
def test_every_head_of_the_table_can_be_named(name):
    assert load_config(overrides=[f"network.head={name}"]).network.head == name


def test_the_numbers_stand_in_the_config_and_come_back(tmp_path):
    config = load_config(overrides=[LITE0, "network.pretrained=package:efficientnet_lite0"])
    assert config.network.pixel_means == config.network.pixel_stds == [0.5] * 3
    save_config(config, tmp_path / "config.yaml")
    assert load_config(tmp_path / "config.yaml") == config


def test_given_numbers_stay():
    config = load_config(overrides=[LITE0, "network.pixel_means=[.1, .2, .3]"])
    assert config.network.pixel_means == [0.1, 0.2, 0.3]
    assert config.network.pixel_stds == [0.5] * 3


def test_numbers_of_a_saved_config_do_not_outlive_its_backbone(tmp_path):
    other = "network.backbone_types=panoptic_deeplab_tiny"
    save_config(load_config(overrides=[LITE0]), tmp_path / "config.yaml")
    changed = load_config(tmp_path / "config.yaml", [other])
    assert changed.network.pixel_means == list(BACKBONES["panoptic_deeplab_tiny"].mean) != [0.5] * 3
    save_config(load_config(overrides=[LITE0, "network.pixel_means=[.1, .2, .3]"]), tmp_path / "own.yaml")
    assert load_config(tmp_path / "own.yaml", [other]).network.pixel_means == [0.1, 0.2, 0.3]


def test_any_name_of_timm_is_accepted_and_a_wrong_one_refused():
    pytest.importorskip("timm", reason="needs the extra `pretrained`")
    config = load_config(overrides=["network.backbone_types=timm:vit_tiny_patch16_224", "network.levels=[1,3]"])
    assert config.network.pixel_means == [0.5] * 3
    with pytest.raises(ConfigError, match="did you mean timm:vit_tiny_patch16_224"):
        load_config(overrides=["network.backbone_types=timm:vit_tiny_patch16_22"])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["network.head=asp"], "network.head: expected one of aspp, .*did you mean aspp"),
        (["network.backbone_types=panoptic"], "network.backbone_types: expected one of panoptic_deeplab_101"),
        (["network.freeze_backbone=true"], "network.pretrained: expected weights, because network.freeze_backbone"),
        ([LITE0, "network.pretrained=package:lite"], "network.pretrained: expected one of package:efficientnet_lite0"),
        (["network.backbone_lr=0"], "network.backbone_lr: expected a number > 0"),
        (["network.levels=[-1]"], "network.levels: expected a list, each an integer >= 0"),
    ],
)
def test_refused(overrides, message):
    with pytest.raises(ConfigError, match=message):
        load_config(overrides=overrides)
