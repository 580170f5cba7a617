"""Feature affinity against loops."""

import math

import pytest
import torch

from spml.grouping import grouping_losses, segment_by_kmeans

CLASSES, CONCENTRATION = 4, 6.0


def dot(one, other):
    return sum(a * b for a, b in zip(one, other, strict=True))


def loop_loss(segments, threshold):
    """Each segment's set from the labelled segments of its image, then each pixel's loss, by lists."""
    place, image = segments.prototype_with_location.tolist(), segments.prototype_batch_index.tolist()
    label, prototype = segments.prototype_semantic_label.tolist(), segments.prototype.tolist()
    sets = []
    for s in range(len(place)):
        near = [
            (dot(place[s], place[t]), label[t])
            for t in range(len(place))
            if image[t] == image[s] and label[t] < CLASSES and dot(place[s], place[t]) >= threshold
        ]
        sets.append({max(near)[1]} if near else set(range(CLASSES)))
    total = 0.0
    for pixel, own in zip(segments.embedding.tolist(), segments.index.tolist(), strict=True):
        score = [math.exp(CONCENTRATION * dot(pixel, p)) for p in prototype]
        share = [bool(sets[own] & sets[t]) for t in range(len(place))]
        positive = sum(score[t] for t in range(len(place)) if share[t] and t != own)
        negative = sum(score[t] for t in range(len(place)) if not share[t])
        total += math.log(1 + negative / (positive or score[own]))
    return total / len(segments.index)


@pytest.fixture
def segments():
    """Three images: points of several classes, points of one, and none."""
    generator = torch.Generator().manual_seed(0)
    semantic = torch.full((3, 6, 6), 254)
    for b, y, x, c in ((0, 0, 0, 0), (0, 2, 4, 1), (0, 5, 1, 3), (1, 3, 3, 2)):
        semantic[b, y, x] = c
    embedding = torch.randn(3, 4, 6, 6, generator=generator, dtype=torch.float64)
    return segment_by_kmeans(embedding, semantic, num_clusters=(2, 2))


@pytest.mark.parametrize("threshold", (-1.0, 0.7, 0.95))
def test_equals_loops(segments, threshold):
    losses = grouping_losses(
        segments,
        torch.zeros(3, CLASSES, dtype=torch.bool),
        num_classes=CLASSES,
        concentration={"feature_affinity": CONCENTRATION},
        relations=("feature_affinity",),
        affinity_threshold=threshold,
    )
    assert float(losses["feature_affinity"]) == pytest.approx(loop_loss(segments, threshold), rel=1e-9)


def test_threshold_matters(segments):
    assert len({round(loop_loss(segments, threshold), 6) for threshold in (-1.0, 0.7, 0.95)}) == 3
