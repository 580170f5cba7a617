"""Labels that travel to segments alike, and the cross-entropy of the classifier with them."""

import pytest
import torch

from spml.config import load_config
from spml.engine.run import build_task
from spml.grouping import segment_by_kmeans
from spml.losses.cross_entropy import cross_entropy
from spml.losses.propagated import propagated_label

OVERRIDES = [
    "losses.feature_affinity.concentration=6",
    "losses.propagated_cross_entropy.weight=0.5",
    "losses.propagated_cross_entropy.threshold=-1",
]
NO_TAG = torch.zeros(3, 4, dtype=torch.bool)


def propagated(semantic, threshold):
    """Of embeddings (B, 2, 32, 32) that say left or right."""
    embedding = torch.zeros(len(semantic), 2, 32, 32)
    embedding[:, 0, :, :16], embedding[:, 1, :, 16:] = 1, 1
    segments = segment_by_kmeans(embedding, semantic, num_clusters=(3, 3))
    return propagated_label(segments, NO_TAG[: len(semantic)], semantic, 4, threshold)


def test_every_pixel_takes_the_label_of_its_image_alone():
    """The point of each half names it; an image without points has no label to give."""
    semantic = torch.full((3, 32, 32), 254)
    semantic[0, 16, 4], semantic[0, 16, 28] = 1, 3
    semantic[1, 16, 16] = 2
    semantic[:, 0] = 255  # ignored pixels are in no segment
    label = propagated(semantic, -1.0)
    assert (label[:, 0] == 255).all() and (label[2] == 255).all()
    assert (label[0, 1:, :16] == 1).all() and (label[0, 1:, 16:] == 3).all()
    assert (label[1, 1:] == 2).all()


def test_a_threshold_keeps_strangers_out():
    semantic = torch.full((1, 32, 32), 254)
    semantic[0, 16, 4] = 1
    label = propagated(semantic, 0.9)
    assert (label[0, :, 16:] == 255).all() and (label[0, 12:20, 2:8] == 1).all()


@pytest.fixture
def task(tiny_config_file):
    return build_task(load_config(tiny_config_file, OVERRIDES))


def batch_of(semantic):
    """Images of one colour left and another right, with the labels `semantic` (B, H, W)."""
    image = torch.zeros(len(semantic), 3, *semantic.shape[1:])
    image[..., semantic.shape[2] // 2 :] = 2.0
    tag = torch.zeros(len(semantic), 4, dtype=torch.bool)
    zeros = torch.zeros_like(semantic)
    return {"image": image, "semantic_label": semantic, "instance_label": zeros, "semantic_tag": tag}


def test_it_is_a_term_of_the_loss_with_gradient(task):
    semantic = torch.full((2, 32, 32), 254)
    semantic[0, 16, 4], semantic[1, 16, 16] = 1, 2
    losses = task(batch_of(semantic))
    assert task.weights["propagated_cross_entropy"] == 0.5 and [*losses] == [*task.weights]
    (gradient,) = torch.autograd.grad(losses["propagated_cross_entropy"], [*task.classifier.parameters()][-1])
    assert gradient.abs().sum() > 0


def test_nothing_labelled_is_no_loss(task):
    losses = task(batch_of(torch.full((2, 32, 32), 254)))
    assert losses["propagated_cross_entropy"].item() == losses["cross_entropy"].item() == 0


def test_it_needs_no_relation_beside_it(tiny_config_file):
    config = load_config(tiny_config_file, ["losses=none", "losses.propagated_cross_entropy.weight=1"])
    task = build_task(config)
    semantic = torch.full((2, 32, 32), 254)
    semantic[0, 16, 4] = 1
    assert task(batch_of(semantic))["propagated_cross_entropy"].item() > 0 and len(task.bank) == 0


def test_target_of_the_maps_size_is_not_resized():
    logit = torch.randn(1, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    target = torch.randint(3, (1, 4, 4), generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(cross_entropy(logit, target), torch.nn.functional.cross_entropy(logit, target))
