"""Dense-CRF loss, normalised and kernel cut: the exact Gaussian by loops, the filter's own matrix, closed forms."""

import math

import pytest
import torch

from spml.losses.cuts import kernel_cut, normalised_cut
from spml.losses.dense_crf import Gaussian, dense_crf, total_weight

CUTS = {
    "dense_crf": dense_crf,
    "normalised_cut": normalised_cut,
    "kernel_cut": lambda *arguments: sum(kernel_cut(*arguments)),
}


def photo(height, width, batch=1, noise=6.0, seed=0):
    """Soft coloured fields with noise (B, 3, h, w), probabilities (B, 4, h, w) in float64, and valid pixels."""
    generator = torch.Generator().manual_seed(seed)
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    field = torch.sin(x / 6) + torch.cos(y / 5)
    tone = torch.tensor([0.5, -0.7, 0.3])[:, None, None]
    rgb = 128 + 45 * field * tone + noise * torch.randn(batch, 3, height, width, generator=generator)
    score = torch.stack([2 * field, -2 * field, 0 * field, 1 - field.abs()])
    score = score + torch.randn(batch, 4, height, width, generator=generator)
    valid = torch.rand(batch, height, width, generator=generator) < 0.8
    return score.double().softmax(1), rgb.clamp(0, 255), valid


def exact_weights(rgb, valid, sigma_xy, sigma_rgb):
    """w_ij of one image, a pair at a time, in Python's own floats; zero where one of both is not valid."""
    pixels = [
        (x / sigma_xy, y / sigma_xy, *(c / sigma_rgb for c in rgb[:, y, x].tolist()), bool(valid[y, x]))
        for y in range(rgb.shape[1])
        for x in range(rgb.shape[2])
    ]
    return [
        [math.exp(-sum((a - b) ** 2 for a, b in zip(p[:5], q[:5], strict=True)) / 2) * (p[5] and q[5]) for q in pixels]
        for p in pixels
    ]


def matrix_of(rgb, valid, sigma_xy, sigma_rgb):
    """W as the filter has it, for one image: each pixel alone."""
    pixels = valid.numel()
    ones = torch.eye(pixels, dtype=torch.float64).view(1, pixels, *valid.shape[1:])
    return Gaussian.of(rgb, valid, sigma_xy, sigma_rgb)(ones)[0].flatten(1)


@pytest.mark.parametrize(
    "sigma_xy, sigma_rgb, noise", ((20, 15, 6), (50, 15, 6), (5, 30, 6), (50, 15, 0), (10, 30, 20))
)
def test_is_near_the_exact_gaussian(sigma_xy, sigma_rgb, noise):
    """Value within 30 %, gradient along with the exact one: what the lattice, an approximation, gives."""
    probability, rgb, valid = photo(16, 18, noise=noise)
    probability.requires_grad_()
    weights = torch.tensor(exact_weights(rgb[0], valid[0], sigma_xy, sigma_rgb), dtype=torch.float64)
    flat = probability.detach()[0].flatten(1)
    exact = -(flat @ weights * flat).sum()
    value = dense_crf(probability, rgb, valid, sigma_xy, sigma_rgb)
    (gradient,) = torch.autograd.grad(value.sum(), probability)
    assert 0.7 < value.item() / exact.item() < 1.3
    counted = valid[0].flatten().expand(4, -1)
    pairs = torch.stack([gradient[0].flatten(1)[counted], (-2 * flat @ weights)[counted]])
    assert torch.corrcoef(pairs)[0, 1] > 0.97


def test_ratio_to_the_gaussian_on_dense_points():
    """Among many points in five dimensions the sum of weights is that of the Gaussian."""
    from spml.propagate.lattice import build_lattice

    for d in (2, 3):
        points = 3 * torch.rand(4000, d)
        inner = ((points - 1.5).abs() < 0.4).all(1)
        ours = build_lattice(points[None])(torch.ones(4000, 1)).squeeze(1) / total_weight(d)
        exact = torch.exp(-torch.cdist(points, points).square() / 2).sum(1)
        assert (ours[inner].sum() / exact[inner].sum()).item() == pytest.approx(1, abs=0.06)


@pytest.mark.parametrize("noise", (0, 6, 40))
def test_weights_are_symmetric_and_stay_in_their_image(noise):
    probability, rgb, valid = photo(9, 10, batch=2, noise=noise)
    weights = matrix_of(rgb[:1], valid[:1], 10, 15)
    torch.testing.assert_close(weights, weights.T, rtol=1e-6, atol=1e-7)
    assert not weights[~valid[0].flatten()].any() and (weights > -1e-4).all()
    both = dense_crf(probability, rgb, valid, 10, 15)
    one = [dense_crf(probability[i : i + 1], rgb[i : i + 1], valid[i : i + 1], 10, 15) for i in range(2)]
    torch.testing.assert_close(both, torch.cat(one), rtol=1e-6, atol=0)


def by_formula(probability, weights):
    """Energy and gradient of each loss, class by class, from the matrix: as METHODS of the papers write them."""
    crf = cut = 0.0
    crf_slope, cut_slope = torch.zeros_like(probability), torch.zeros_like(probability)
    degree = weights.sum(1)
    for k, s in enumerate(probability):
        filtered, association, volume = weights @ s, s @ weights @ s, degree @ s
        crf -= association
        crf_slope[k] = -2 * filtered
        cut += s @ weights @ (1 - s) / volume
        cut_slope[k] = degree * association / volume**2 - 2 * filtered / volume
    return (crf, crf_slope), (cut, cut_slope)


def test_values_and_gradients_are_those_of_the_formulas():
    probability, rgb, valid = photo(8, 9)
    probability.requires_grad_()
    flat, inside = probability.detach()[0].flatten(1), valid[0].flatten()
    weights = matrix_of(rgb, valid, 10, 15)
    (crf, crf_slope), (cut, cut_slope) = by_formula(flat[:, inside], weights[inside][:, inside])
    for loss, value, slope in (
        (dense_crf, crf, crf_slope),
        (normalised_cut, cut, cut_slope),
        (CUTS["kernel_cut"], crf + cut, crf_slope + cut_slope),
    ):
        ours = loss(probability, rgb, valid, 10, 15)
        (gradient,) = torch.autograd.grad(ours.sum(), probability)
        torch.testing.assert_close(ours[0], value, rtol=1e-6, atol=1e-8)
        torch.testing.assert_close(gradient[0].flatten(1)[:, inside], slope, rtol=1e-5, atol=1e-7)
        assert not gradient[0].flatten(1)[:, ~inside].any()


@pytest.mark.parametrize("sigma_xy, sigma_rgb, noise", ((20, 15, 6), (50, 15, 6), (5, 30, 6), (10, 30, 20)))
def test_the_cut_is_near_that_of_the_exact_gaussian(sigma_xy, sigma_rgb, noise):
    """By the formula, from weights of a pair at a time."""
    probability, rgb, valid = photo(16, 18, noise=noise)
    probability.requires_grad_()
    weights = torch.tensor(exact_weights(rgb[0], valid[0], sigma_xy, sigma_rgb), dtype=torch.float64)
    inside = valid[0].flatten()
    flat = probability.detach()[0].flatten(1)[:, inside]
    _, (exact, exact_slope) = by_formula(flat, weights[inside][:, inside])
    value = normalised_cut(probability, rgb, valid, sigma_xy, sigma_rgb)
    (gradient,) = torch.autograd.grad(value.sum(), probability)
    assert value.item() == pytest.approx(exact.item(), rel=0.02)
    pairs = torch.stack([gradient[0].flatten(1)[:, inside].flatten(), exact_slope.flatten()])
    assert torch.corrcoef(pairs)[0, 1] > 0.99


@pytest.mark.parametrize("loss", CUTS.values(), ids=CUTS.keys())
def test_gradcheck(loss):
    probability, rgb, valid = photo(4, 5, batch=2)
    score = probability.log().requires_grad_()
    assert torch.autograd.gradcheck(lambda s: loss(s.softmax(1), rgb, valid, 10, 15), score)


def test_dense_crf_by_hand():
    """Two black pixels, a range in space so wide that they stand on one point: the exact W is all ones.

    S = (1, 0) and (1/4, 3/4): class sums 5/4 and 3/4, so S' W S = 25/16 + 9/16 = 2.125, and the loss is -2.125. Black
    stands on a corner of the lattice, from which the six blurs by halves return 1 + 1/64 (once round its simplex),
    times 32/33 as the lattice has it: 65/66; and all is divided by the total weight.
    """
    probability = torch.tensor([[1.0, 0.25], [0.0, 0.75]]).view(1, 2, 1, 2)
    value = dense_crf(probability, torch.zeros(1, 3, 1, 2), torch.ones(1, 1, 2, dtype=torch.bool), 1e6, 15)
    assert value.item() * total_weight(5) == pytest.approx(-2.125 * 65 / 66, rel=1e-5)


def test_cuts_by_hand():
    """Two black and two white pixels on two points; black and white do not meet, so W has two blocks c and e of ones.

    A class of the black pixels: S' W S = 4 c = d' S, and the same for white: the cut is 0. A class of one black and one
    white pixel: S' W S = c + e, d' S = 2 c + 2 e, so each of two classes adds 1/2: 1. One class of all pixels: 0, and
    the empty one adds nothing.
    """
    rgb = torch.tensor([0.0, 0, 255, 255]).expand(1, 3, 1, 4)
    valid = torch.ones(1, 1, 4, dtype=torch.bool)
    for first, expected in (([1, 1, 0, 0], 0), ([1, 0, 1, 0], 1), ([1, 1, 1, 1], 0)):
        s = torch.tensor([first, [1 - one for one in first]], dtype=torch.float32).view(1, 2, 1, 4)
        assert normalised_cut(s, rgb, valid, 1e6, 15).item() == pytest.approx(expected, abs=1e-5)
        crf, cut = kernel_cut(s, rgb, valid, 1e6, 15)
        assert crf == dense_crf(s, rgb, valid, 1e6, 15) and cut == normalised_cut(s, rgb, valid, 1e6, 15)


def test_certainty_of_one_class_is_lowest():
    probability, rgb, valid = photo(8, 9)
    same = torch.zeros_like(probability)
    same[:, 1] = 1
    assert dense_crf(same, rgb, valid, 10, 15) < dense_crf(probability, rgb, valid, 10, 15) < 0


def test_too_small_a_range_is_an_error():
    from spml.errors import UserError

    probability, rgb, valid = photo(8, 9)
    with pytest.raises(UserError, match="standard deviations are too small"):
        dense_crf(probability, rgb, valid, 1e-4, 1e-4)
