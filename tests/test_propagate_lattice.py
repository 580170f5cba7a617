"""The permutohedral lattice beside a reference of dictionaries and loops, and beside the Gaussian it approximates."""

import itertools
import math

import numpy as np
import pytest
import torch

from spml.errors import UserError
from spml.propagate.lattice import build_lattice


def corners(point):
    """{corner: share} of one point, by Adams et al., section 3: embed, round to remainder 0, sort, walk the simplex."""
    d = len(point)
    basis = [[1.0] * (i + 1) + [-(i + 1.0)] + [0.0] * (d - i - 1) for i in range(d)]  # columns of E, up to length
    spread = (d + 1) * math.sqrt(2 / 3)
    lengths = [math.sqrt((i + 1) * (i + 2)) for i in range(d)]
    y = [sum(spread * point[i] / lengths[i] * basis[i][j] for i in range(d)) for j in range(d + 1)]
    # the nearest point of remainder 0 that sums to zero; the wrong sum is made up where rounding cost most
    nearest = [(d + 1) * round(v / (d + 1)) for v in y]
    while sum(nearest):
        sign = 1 if sum(nearest) < 0 else -1
        worst = max(range(d + 1), key=lambda j: sign * (y[j] - nearest[j]))
        nearest[worst] += sign * (d + 1)
    by_residual = sorted(range(d + 1), key=lambda j: nearest[j] - y[j])  # the largest y - nearest first
    residual = [y[j] - nearest[j] for j in by_residual]
    shares = {}
    for m in range(d + 1):  # corner m: the d + 1 - m largest go m up, the others d + 1 - m down
        corner = list(nearest)
        for place, j in enumerate(by_residual):
            corner[j] += m if place < d + 1 - m else m - (d + 1)
        if m:
            share = (residual[d - m] - residual[d + 1 - m]) / (d + 1)
        else:
            share = 1 - (residual[0] - residual[d]) / (d + 1)
        shares[tuple(corner)] = share
    return shares


def filtered(points, values):
    """Splat, blur and slice with dictionaries; values (N, K)."""
    d, held = len(points[0]), {}
    simplices = [corners(point) for point in points]
    for shares, value in zip(simplices, values, strict=True):
        for corner, share in shares.items():
            held[corner] = held.get(corner, 0) + share * value
    for axis in range(d + 1):
        blurred = {}
        for corner, value in held.items():
            sides = [tuple(c - s + s * (d + 1) * (j == axis) for j, c in enumerate(corner)) for s in (1, -1)]
            blurred[corner] = value + sum(held.get(side, 0) for side in sides) / 2
        held = blurred
    alpha = 1 / (1 + 2**-d)
    return np.stack([alpha * sum(share * held[c] for c, share in shares.items()) for shares in simplices])


@pytest.mark.parametrize("d", (1, 2, 3, 5))
def test_equals_the_reference(d):
    rng = np.random.default_rng(d)
    points = rng.normal(0, 1.5, (60, d))
    points[:5] = points[5:10]  # some twice
    values = rng.random((60, 4))
    lattice = build_lattice(torch.from_numpy(points).float()[None])
    np.testing.assert_allclose(lattice(torch.from_numpy(values).float()), filtered(points, values), rtol=2e-4)


def test_shares_are_a_mixture():
    """Points of a grid lie on edges and corners of simplices, where rounding has ties."""
    grid = torch.tensor(list(itertools.product(range(-3, 4), repeat=3))).float()
    lattice = build_lattice(grid[None] / math.sqrt(2))
    share = lattice.slice.weight.view(-1, 4) * (1 + 2.0**-3)
    assert share.min() > -1e-5
    torch.testing.assert_close(share.sum(1), torch.ones(len(grid)))
    torch.testing.assert_close(lattice.splat(torch.ones(len(grid), 1)).sum(), torch.tensor(float(len(grid))))


@pytest.mark.parametrize("d", (2, 3, 5))
def test_is_near_the_gaussian(d):
    """Among dense points; the lattice is an approximation, and its constant is left out by the correlation."""
    points = torch.randn(1500, d) * 0.8
    values = torch.rand(1500, 3)
    kernel = torch.exp(-torch.cdist(points, points).square() / 2)
    ours, exact = build_lattice(points[None])(values), kernel @ values
    for column in range(3):
        assert torch.corrcoef(torch.stack([ours[:, column], exact[:, column]]))[0, 1] > 0.99
    smooth = build_lattice(points[None]).normalised(2.0)(values)
    root = kernel.sum(1).rsqrt()
    expected = 2 * root[:, None] * (kernel @ (root[:, None] * values))
    assert (smooth - expected).abs().mean() < 0.05 * expected.mean()


def test_a_far_point_keeps_its_own_value():
    """Alone, a point gets back alpha times the sum of the squares of its shares plus what the blur brings round."""
    points = torch.tensor([[0.0, 0.0], [100.0, 100.0]])
    ours = build_lattice(points[None])(torch.eye(2))
    assert ours[0, 1] == ours[1, 0] == 0
    torch.testing.assert_close(build_lattice(points[None]).normalised(3.0)(torch.eye(2)), 3 * torch.eye(2))


@pytest.mark.parametrize("spread", (0.3, 1.0, 3.0))
def test_symmetric_is_the_mean_of_the_filter_and_its_transpose(spread):
    """Where corners are missing between points, at a spread of one, the filter itself is far from symmetric."""
    lattice = build_lattice(spread * torch.randn(1, 200, 5))
    once = lattice(torch.eye(200, dtype=torch.float64))
    ours = lattice.symmetric(torch.eye(200, dtype=torch.float64))
    torch.testing.assert_close(ours, (once + once.T) / 2, rtol=1e-6, atol=1e-7)
    assert spread != 1 or (once - once.T).norm() > 0.1 * once.norm()


def test_images_do_not_meet():
    points = torch.randn(3, 40, 5)
    points[1] = points[0]
    values = torch.rand(3, 40, 2)
    whole = build_lattice(points)(values.flatten(0, 1)).view(3, 40, 2)
    for image in range(3):
        torch.testing.assert_close(whole[image], build_lattice(points[image : image + 1])(values[image]))


def test_one_point_and_features_too_far_apart():
    assert build_lattice(torch.zeros(1, 1, 5))(torch.ones(1, 1)).shape == (1, 1)
    with pytest.raises(UserError, match="standard deviations are too small"):
        build_lattice(torch.tensor([[[0.0] * 5, [1e6] * 5]]))


@pytest.mark.gpu
def test_on_cuda():
    points, values = torch.randn(2, 5000, 5), torch.rand(10000, 21)
    expected = build_lattice(points)(values)
    lattice = build_lattice(points.cuda())
    torch.testing.assert_close(lattice(values.cuda()).cpu(), expected, rtol=1e-4, atol=1e-5)
