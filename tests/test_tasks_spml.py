"""The labels that feature affinity lends to the classifier."""

import pytest
import torch

from spml.config import load_config
from spml.engine import loop
from spml.losses.cross_entropy import cross_entropy

OVERRIDES = [
    "train.feat_aff_loss_types=segsort",
    "train.feat_aff_concentration=6",
    "train.feat_aff_loss_weight=1",
    "train.feat_aff_threshold=-1",
    "train.lent_cross_entropy_weight=0.5",
]


@pytest.fixture
def task(tiny_config_file):
    return loop.build_task(load_config(tiny_config_file, OVERRIDES), "embedding")


def batch_of(semantic):
    """Images of one colour left and another right, with the labels `semantic` (B, H, W)."""
    image = torch.zeros(len(semantic), 3, *semantic.shape[1:])
    image[..., semantic.shape[2] // 2 :] = 2.0
    tag = torch.zeros(len(semantic), 6, dtype=torch.bool)
    return {
        "image": image,
        "semantic_label": semantic,
        "instance_label": torch.zeros_like(semantic),
        "semantic_tag": tag,
    }


def test_every_pixel_takes_the_label_of_its_image_alone(task):
    """Embeddings that say left or right: the point of each half names it; an image without points lends nothing."""
    semantic = torch.full((3, 32, 32), 254)
    semantic[0, 16, 4], semantic[0, 16, 28] = 1, 3
    semantic[1, 16, 16] = 2
    semantic[:, 0] = 255  # ignored pixels are in no segment
    batch = batch_of(semantic)
    embedding = torch.zeros(3, task.config.network.embedding_dim, 32, 32)
    embedding[:, 0, :, :16], embedding[:, 1, :, 16:] = 1, 1
    lent = task.lent_label(batch, task.segment(batch, embedding), torch.Size((32, 32)))
    assert (lent[:, 0] == 255).all() and (lent[2] == 255).all()
    assert (lent[0, 1:, :16] == 1).all() and (lent[0, 1:, 16:] == 3).all()
    assert (lent[1, 1:] == 2).all()


def test_a_threshold_keeps_strangers_out(task):
    task.config.train.feat_aff_threshold = 0.9
    semantic = torch.full((1, 32, 32), 254)
    semantic[0, 16, 4] = 1
    batch = batch_of(semantic)
    embedding = torch.zeros(1, task.config.network.embedding_dim, 32, 32)
    embedding[:, 0, :, :16], embedding[:, 1, :, 16:] = 1, 1
    lent = task.lent_label(batch, task.segment(batch, embedding), torch.Size((32, 32)))
    assert (lent[0, :, 16:] == 255).all() and (lent[0, 12:20, 2:8] == 1).all()


def test_it_is_a_term_of_the_loss_with_gradient(task):
    semantic = torch.full((2, 32, 32), 254)
    semantic[0, 16, 4], semantic[1, 16, 16] = 1, 2
    losses = task(batch_of(semantic))
    assert task.weights["lent_cross_entropy"] == 0.5 and losses.keys() == task.weights.keys()
    (gradient,) = torch.autograd.grad(losses["lent_cross_entropy"], [*task.classifier.parameters()][-1])
    assert gradient.abs().sum() > 0


def test_nothing_labelled_is_no_loss(task):
    losses = task(batch_of(torch.full((2, 32, 32), 254)))
    assert losses["lent_cross_entropy"].item() == losses["cross_entropy"].item() == 0


def test_no_weight_no_term(tiny_config_file):
    task = loop.build_task(
        load_config(tiny_config_file, [*OVERRIDES, "train.lent_cross_entropy_weight=0"]), "embedding"
    )
    assert "lent_cross_entropy" not in task.weights


def test_target_of_the_maps_size_is_not_resized():
    logit = torch.randn(1, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    target = torch.randint(3, (1, 4, 4), generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(cross_entropy(logit, target), torch.nn.functional.cross_entropy(logit, target))
