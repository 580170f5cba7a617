"""Neighbour, gated CRF and entropy against loops over pixels, by hand, and by gradcheck."""

import math

import pytest
import torch

from spml.losses.entropy import entropy
from spml.losses.gated_crf import gated_crf
from spml.losses.neighbour import LOSS, neighbour
from spml.losses.window import half_window, pair


def problem(height=5, width=6, batch=2, classes=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    score = torch.randn(batch, classes, height, width, generator=generator, dtype=torch.float64)
    rgb = 100 + 30 * torch.rand(batch, 3, height, width, generator=generator, dtype=torch.float64)
    valid = torch.rand(batch, height, width, generator=generator) < 0.8
    return score.requires_grad_(), rgb, valid


def pixels_of(valid):
    height, width = valid.shape
    return [(y, x) for y in range(height) for x in range(width) if valid[y, x]]


def loop_neighbour(probability, rgb, valid, sigma, neighbours):
    total = 0.0
    for y, x in pixels_of(valid):
        for v, u in pixels_of(valid):
            touches = abs(y - v) + abs(x - u) == 1 if neighbours == 4 else max(abs(y - v), abs(x - u)) == 1
            if touches and (y, x) < (v, u):
                colour = sum((rgb[c, y, x] - rgb[c, v, u]).item() ** 2 for c in range(3))
                change = sum((s[y, x] - s[v, u]).item() ** 2 for s in probability)
                total += math.exp(-colour / (2 * sigma**2)) * change
    return total


def loop_gated(probability, rgb, valid, radius, sigma_xy, sigma_rgb):
    mean, deviation = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    total = 0.0
    for i in pixels_of(valid):
        for j in pixels_of(valid):
            dy, dx = i[0] - j[0], i[1] - j[1]
            if i == j or max(abs(dy), abs(dx)) > radius:
                continue
            f = [[((rgb[c][p].item() / 255) - mean[c]) / deviation[c] / sigma_rgb for c in range(3)] for p in (i, j)]
            distance = sum((a - b) ** 2 for a, b in zip(*f, strict=True)) + (dy * dy + dx * dx) / sigma_xy**2
            product = sum(s[i].item() * s[j].item() for s in probability)
            total += math.exp(-distance / 2) * (1 - product)
    return total


@pytest.mark.parametrize("neighbours", (4, 8))
def test_neighbour_equals_loops(neighbours):
    score, rgb, valid = problem()
    value = neighbour(score.softmax(1), rgb, valid, 20, neighbours)
    expected = [loop_neighbour(s, c, v, 20, neighbours) for s, c, v in zip(score.softmax(1), rgb, valid, strict=True)]
    assert value.tolist() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("radius", (1, 2, 5))
def test_gated_crf_equals_loops(radius):
    """A window of 5 is wider than the image is high."""
    score, rgb, valid = problem()
    value = gated_crf(score.softmax(1), rgb, valid, radius, 3.0, 0.4)
    expected = [loop_gated(s, c, v, radius, 3.0, 0.4) for s, c, v in zip(score.softmax(1), rgb, valid, strict=True)]
    assert value.tolist() == pytest.approx(expected, rel=1e-9)


def test_entropy_equals_loops():
    score, _, valid = problem()
    expected = [
        sum(-p[y, x].item() * math.log(p[y, x].item()) for y, x in pixels_of(v) for p in s)
        for s, v in zip(score.softmax(1), valid, strict=True)
    ]
    assert entropy(score, valid).tolist() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("loss", ("neighbour", "gated_crf", "entropy"))
def test_gradcheck(loss):
    score, rgb, valid = problem(height=3, width=4)
    losses = {
        "neighbour": lambda s: neighbour(s.softmax(1), rgb, valid, 20),
        "gated_crf": lambda s: gated_crf(s.softmax(1), rgb, valid, 2, 3.0, 0.4),
        "entropy": lambda s: entropy(s, valid),
    }
    assert torch.autograd.gradcheck(losses[loss], score)


def test_neighbour_by_hand():
    """Pixels a b over c d, colours alike but for d, which is 15 off in one channel: w = exp(-1/2) with sigma 15.

    Certain classes a 0, b 1, c 0, d 1: |S_p - S_q|^2 is 2 between unlike pixels. Four neighbours: a-b 2, c-d 2 w, the
    others agree: 2 + 2 w. Eight: a-d 2 w and b-c 2 more.
    """
    rgb = torch.zeros(1, 3, 2, 2)
    rgb[0, 0, 1, 1] = 15
    first = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    probability, valid = torch.stack([first, 1 - first])[None], torch.ones(1, 2, 2, dtype=torch.bool)
    w = math.exp(-0.5)
    assert neighbour(probability, rgb, valid, 15, 4).item() == pytest.approx(2 + 2 * w)
    assert neighbour(probability, rgb, valid, 15, 8).item() == pytest.approx(4 + 4 * w)
    with pytest.raises(ValueError, match="expected 4 or 8, got 6"):
        neighbour(probability, rgb, valid, 15, 6)


def test_gated_crf_by_hand():
    """Two pixels of one colour side by side: k = exp(-(1/6)^2 / 2) = exp(-1/72).

    S = (1, 0) and (1/4, 3/4): 1 - S . S = 3/4, counted from either end: 1.5 exp(-1/72). A third pixel that is not
    valid, or two pixels farther apart than the radius, add nothing.
    """
    probability = torch.tensor([[1.0, 0.25, 0.0], [0.0, 0.75, 1.0]]).view(1, 2, 1, 3)
    valid = torch.tensor([[[True, True, False]]])
    value = gated_crf(probability, torch.full((1, 3, 1, 3), 80.0), valid)
    assert value.item() == pytest.approx(1.5 * math.exp(-1 / 72), rel=1e-6)
    assert gated_crf(probability, torch.zeros(1, 3, 1, 3), torch.tensor([[[True, False, True]]]), 1).item() == 0


def test_entropy_by_hand():
    """Scores (0, 0) give ln 2, scores (0, ln 3) give (1/4) ln 4 + (3/4) ln(4/3) = ln 4 - (3/4) ln 3; void 0."""
    logit = torch.tensor([[0.0, 0.0, 0.0], [0.0, math.log(3), 7.0]], dtype=torch.float64).view(1, 2, 1, 3)
    value = entropy(logit, torch.tensor([[[True, True, False]]]))
    assert value.item() == pytest.approx(math.log(2) + math.log(4) - 0.75 * math.log(3), rel=1e-12)


def test_windows_hold_every_pair_once():
    offsets = half_window(2)
    assert len(offsets) == (25 - 1) // 2 == len({*offsets, *((-dy, -dx) for dy, dx in offsets)}) // 2
    image = torch.arange(12).view(1, 1, 3, 4)
    for dy, dx in ((0, 1), (1, 0), (1, -1), (-1, 2), (4, 0), (0, -5)):
        first, second = pair(image, (dy, dx))
        rows, columns = max(3 - abs(dy), 0), max(4 - abs(dx), 0)
        assert first.shape == second.shape == (1, 1, rows, columns)
        assert (second - first == 4 * dy + dx).all()


def test_neighbours_of_a_config():
    kind = LOSS.settings.__dataclass_fields__["neighbours"].metadata["key"].kind
    assert kind.read(4) == 4 and kind.read("8") == 8
    for wrong in (6, True, "many", 4.5):
        with pytest.raises((ValueError, TypeError)):
            kind.read(wrong)
