"""SEAM's losses against plain loops, their closed forms and edges."""

import math

import numpy as np
import pytest
import torch

from spml.losses import seam
from spml.models.pixel_correlation import TINY, correlate, max_normalise, maximum_only


def maps(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def cells(length, parts):
    """Start and end of each of `parts` cells, as shrinking by areas has them."""
    return [(i * length // parts, -(-(i + 1) * length // parts)) for i in range(parts)]


def normalised(x, tag, size):
    """`of_tags` by loops: (B, C, h, w) as nested means, ReLU, maximum."""
    out = np.zeros((*x.shape[:2], *size))
    for b in range(x.shape[0]):
        for c in range(x.shape[1]):
            if not tag[b, c]:
                continue
            for i, (top, bottom) in enumerate(cells(x.shape[2], size[0])):
                for j, (left, right) in enumerate(cells(x.shape[3], size[1])):
                    out[b, c, i, j] = max(0.0, float(x[b, c, top:bottom, left:right].mean()))
            out[b, c] /= max(out[b, c].max(), TINY)
    return out


TAG = torch.tensor([[1, 0, 1], [0, 1, 0], [0, 0, 0]], dtype=torch.bool)  # the last image has none


def test_classification_loss_by_loops():
    logit = maps(3, 3)
    expected = 0.0
    for b in range(3):
        for c in range(3):
            p = 1 / (1 + math.exp(-float(logit[b, c])))
            expected -= math.log(p if TAG[b, c] else 1 - p)
    assert float(seam.classification_loss(logit, TAG)) == pytest.approx(expected / 9)


def test_equivariance_loss_by_loops():
    first, second = maps(3, 3, 7, 6), maps(3, 3, 3, 2, seed=1)
    a, b = normalised(first.numpy(), TAG, (3, 2)), normalised(second.numpy(), TAG, (3, 2))
    expected = sum(abs(x - y) for x, y in zip(a.flat, b.flat, strict=True)) / a.size
    assert float(seam.equivariance_loss(first, second, TAG)) == pytest.approx(expected)


def test_equivariance_is_zero_for_an_equivariant_map():
    first = maps(3, 3, 8, 12)
    second = torch.nn.functional.avg_pool2d(first, 2)
    assert float(seam.equivariance_loss(first, second, TAG)) == pytest.approx(0, abs=1e-12)
    assert float(seam.equivariance_loss(first, 7 * second, TAG)) == pytest.approx(0, abs=1e-12)  # of any size of value
    assert float(seam.equivariance_loss(first, second.flip(3), TAG)) > 0.05


def test_cross_refinement_loss_by_loops():
    first, second = maps(3, 3, 7, 6), maps(3, 3, 3, 2, seed=1)
    refined = (maps(3, 3, 7, 6, seed=2), maps(3, 3, 3, 2, seed=3))
    raw = [normalised(x.numpy(), TAG, (3, 2)) for x in (first, second)]
    ours = [normalised(x.numpy(), TAG, (3, 2)) for x in refined]
    expected = 0.0
    for target, own in ((raw[1], ours[0]), (raw[0], ours[1])):
        for b in range(3):
            differences = []
            for i in range(3):
                for j in range(2):
                    best = max(target[b, :, i, j])
                    differences.append(abs((1 - best) - (1 - max(own[b, :, i, j]))))
                    for c in range(3):
                        wanted = target[b, c, i, j] if target[b, c, i, j] == best else 0.0
                        differences.append(abs(wanted - own[b, c, i, j]))
            hardest = sorted(differences, reverse=True)[: int(0.2 * len(differences))]
            expected += sum(hardest) / len(hardest) / 3
    assert float(seam.cross_refinement_loss(first, second, refined, TAG)) == pytest.approx(expected)


def test_cross_refinement_reaches_the_refined_maps_alone():
    raw = [maps(3, 3, 4, 4).requires_grad_(), maps(3, 3, 2, 2, seed=1).requires_grad_()]
    refined = [maps(3, 3, 4, 4, seed=2).requires_grad_(), maps(3, 3, 2, 2, seed=3).requires_grad_()]
    seam.cross_refinement_loss(*raw, (refined[0], refined[1]), TAG).backward()
    assert all(x.grad is None for x in raw)
    assert all(x.grad is not None and x.grad[:2].any() and not x.grad[2].any() for x in refined)


def test_min_pool_loss_by_loops():
    refined = maps(3, 3, 3, 3).abs()
    expected = 0.0
    for b in range(3):
        strongest = sorted(
            max(float(refined[b, c, i, j]) if TAG[b, c] else 0.0 for c in range(3)) for i in range(3) for j in range(3)
        )
        expected += sum(strongest[: 9 // 4]) / (9 // 4) / 3
    assert float(seam.min_pool_loss(refined, TAG)) == pytest.approx(expected)


def test_maximum_only_and_normalise_by_hand():
    x = torch.tensor([[-1.0, 2.0, 4.0], [3.0, 2.0, -5.0]]).view(1, 2, 1, 3)
    n = max_normalise(x).view(2, 3)
    torch.testing.assert_close(n, torch.tensor([[0.0, 0.5, 1.0], [1.0, 2 / 3, 0.0]]))
    kept = maximum_only(n.view(1, 2, 1, 3)).view(2, 3)
    torch.testing.assert_close(kept, torch.tensor([[0.0, 0.0, 1.0], [1.0, 2 / 3, 0.0]]))
    whole = seam.with_background(kept.view(1, 2, 1, 3)).view(3, 3)
    torch.testing.assert_close(whole[0], torch.tensor([0.0, 1 / 3, 0.0]))
    assert not max_normalise(-x.abs()).any()


@pytest.mark.parametrize(
    ("classes", "first", "second"), [(1, (6, 5), (2, 2)), (3, (1, 1), (1, 1)), (1, (1, 1), (1, 1))]
)
def test_one_class_and_one_pixel(classes, first, second):
    tag = torch.ones(2, classes, dtype=torch.bool)
    a, b = maps(2, classes, *first).requires_grad_(), maps(2, classes, *second, seed=1).requires_grad_()
    total = (
        seam.equivariance_loss(a, b, tag)
        + seam.cross_refinement_loss(a, b, (a, b), tag)
        + seam.min_pool_loss(a, tag)
        + seam.classification_loss(a.mean((2, 3)), tag)
    )
    total.backward()
    assert torch.isfinite(total) and torch.isfinite(a.grad).all() and torch.isfinite(b.grad).all()


def test_an_image_without_tags_is_background_and_costs_nothing_but_classification():
    tag = torch.zeros(2, 3, dtype=torch.bool)
    a, b = maps(2, 3, 4, 4), maps(2, 3, 2, 2, seed=1)
    assert seam.equivariance_loss(a, b, tag) == 0 and seam.min_pool_loss(a, tag) == 0
    assert seam.cross_refinement_loss(a, b, (a, b), tag) == 0
    assert seam.classification_loss(torch.full((2, 3), -40.0), tag) < 1e-6


@pytest.mark.parametrize("loss", ["equivariance", "cross_refinement", "min_pool", "classification", "correlate"])
def test_gradients(loss):
    tag = TAG[:2]
    a, b = maps(2, 3, 4, 3).requires_grad_(), maps(2, 3, 2, 2, seed=1).requires_grad_()
    raw = (maps(2, 3, 4, 3, seed=2), maps(2, 3, 2, 2, seed=3))
    call = {
        "equivariance": lambda x, y: seam.equivariance_loss(x, y, tag),
        "cross_refinement": lambda x, y: seam.cross_refinement_loss(*raw, (x, y), tag),
        "min_pool": lambda x, y: seam.min_pool_loss(x.exp(), tag) + 0 * y.sum(),
        "classification": lambda x, y: seam.classification_loss(x.mean((2, 3)) + y.mean((2, 3)), tag),
        "correlate": lambda x, y: correlate(x, x[:, :2].exp()).sum() + 0 * y.sum(),
    }[loss]
    assert torch.autograd.gradcheck(call, (a, b))
