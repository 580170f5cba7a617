"""Keys, shapes and numbers of the released networks, on seeded weights."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from easydict import EasyDict
from parity import numbers, seeded_array, state_keys

from spml.models import build_classifier, build_embedding_model

KERNEL = "lfn.smooth_kernel.weight"
MODELS = {  # name in the parity file: backbone, embedding_dim, dataset
    "deeplab_101": ("panoptic_deeplab_101", 64, "VOC2012"),
    "deeplab_50": ("panoptic_deeplab_50", 64, "VOC2012"),
    "pspnet_101": ("panoptic_pspnet_101", 64, "VOC2012"),
    "pspnet_101_densepose": ("panoptic_pspnet_101", 32, "Densepose"),
}


def make_config(backbone, embedding_dim, dataset):
    return EasyDict(
        network={"backbone_types": backbone, "embedding_dim": embedding_dim},
        dataset={"dataset": dataset, "num_classes": 21},
    )


@pytest.fixture(scope="module")
def parity():
    return SimpleNamespace(value=numbers("models", "models_full_size"), keys=state_keys())


def assert_close(ours, released):
    assert ours.shape == released.shape
    assert (ours - released).abs().max() <= 1e-4 * released.abs().max()


def seed_weights(parity, model, keys):
    assert {key: list(value.shape) for key, value in model.state_dict().items()} == keys
    state = {key: torch.from_numpy(np.asarray(seeded_array(key, keys[key], 1))) for key in keys if key != KERNEL}
    if KERNEL in keys:
        assert_close(model.state_dict()[KERNEL], parity.value[KERNEL])  # the closed form
        state[KERNEL] = parity.value[KERNEL]
    model.load_state_dict(state)
    return model.eval()


@pytest.mark.parametrize("name", MODELS)
@torch.inference_mode()
def test_embedding_equals_the_release(parity, name):
    model = seed_weights(parity, build_embedding_model(make_config(*MODELS[name])), parity.keys[name])
    image = parity.value["image"]
    size = image.shape[-2:]

    assert_close(model(image)[:, ::4], parity.value[f"{name}.embedding"])
    assert_close(model(image, size)[:, ::32], parity.value[f"{name}.embedding_full"])

    local = parity.value.get(f"{name}.local_feature")
    if local is not None:
        assert_close(model.location(image, local.shape[1:3]), local)


@torch.inference_mode()
def test_classifier_equals_the_release(parity):
    classifier = build_classifier(make_config("panoptic_deeplab_101", 64, "VOC2012"))
    seed_weights(parity, classifier, parity.keys["softmax_classifier"])
    assert_close(classifier(parity.value["classifier.embedding"]), parity.value["classifier.logit"])
