"""The walks of AffinityNet and IRN against dense matrices and their powers, as the authors' code has them."""

import math

import numpy as np
import pytest
import torch

from spml.propagate.affinity_walk import affinity_walk, edge_walk, power_weights
from spml.propagate.pairs import disk_offsets

FLOAT = torch.float64


def pixels(height, width):
    return [(y, x) for y in range(height) for x in range(width)]


def dense(height, width, radius, affinity):
    """(n, n): the affinity of every pair nearer than `radius`, one on the diagonal."""
    places = pixels(height, width)
    found = np.eye(len(places))
    for a, p in enumerate(places):
        for b, q in enumerate(places):
            if a != b and math.hypot(p[0] - q[0], p[1] - q[1]) < radius - 1e-9:
                found[a, b] = affinity(min(p, q), max(p, q))
    return found


def dense_walk(matrix, score, beta, steps):
    """T^steps score with T = D^-1 W^beta, by squaring where that is possible."""
    matrix = matrix**beta
    power = np.linalg.matrix_power(matrix / matrix.sum(1, keepdims=True), steps)
    return (power @ score.reshape(len(score), -1).T).T.reshape(score.shape)


def random_pairs(height, width, radius, seed=0):
    """Affinities in the order of `spml.propagate.pairs`, and a function of two pixels that gives the same."""
    generator = torch.Generator().manual_seed(seed)
    table, row = {}, []
    for dy, dx in disk_offsets(radius):
        for y, x in pixels(height, width):
            if 0 <= y + dy < height and 0 <= x + dx < width:
                table[(y, x), (y + dy, x + dx)] = float(torch.rand(1, generator=generator))
                row.append(table[(y, x), (y + dy, x + dx)])
    return torch.tensor(row, dtype=FLOAT), lambda p, q: table[p, q]


@pytest.mark.parametrize("steps", [0, 1, 2, 7, 64, 256])
@pytest.mark.parametrize(("size", "radius"), [((5, 6), 5), ((4, 9), 3), ((1, 7), 5), ((1, 1), 5)])
def test_the_walk_is_a_power_of_a_matrix(size, radius, steps):
    row, affinity = random_pairs(*size, radius)
    score = torch.rand(3, *size, dtype=FLOAT)
    got = affinity_walk(row, score, disk_offsets(radius), 8, steps)
    expected = dense_walk(dense(*size, radius, affinity), score.numpy(), 8, steps)
    np.testing.assert_allclose(got.numpy(), expected, rtol=1e-9, atol=1e-12)
    single = affinity_walk(row.float(), score.float(), disk_offsets(radius), 8, steps)
    assert single.dtype == torch.float32
    np.testing.assert_allclose(single.numpy(), expected, atol=2e-5)


def loop_path(edge, p, q):
    """1 - the largest edge of the bounding box nearer to the line from p to q than one."""
    dy, dx = q[0] - p[0], q[1] - p[1]
    box = [
        (y, x) for y in range(min(p[0], q[0]), max(p[0], q[0]) + 1) for x in range(min(p[1], q[1]), max(p[1], q[1]) + 1)
    ]
    near = [one for one in box if abs(dy * (one[1] - p[1]) - dx * (one[0] - p[0])) / math.hypot(dy, dx) < 1 - 1e-9]
    return 1 - max(float(edge[one]) for one in near)


@pytest.mark.parametrize("padding", [0, 3])
@pytest.mark.parametrize("steps", [1, 16, 256])
def test_irns_walk(padding, steps):
    """Also with the edges of the authors' code, padded with one, of whose matrix the image's part is cut out."""
    height, width, radius = 5, 6, 4
    edge, score = 0.9 * torch.rand(height, width, dtype=FLOAT), torch.rand(2, height, width, dtype=FLOAT)
    padded = np.pad(edge.numpy(), padding, constant_values=1.0)
    matrix = dense(*padded.shape, radius, lambda p, q: loop_path(padded, p, q))
    inside = np.pad(np.ones((height, width), bool), padding).ravel()
    matrix = matrix[inside][:, inside]
    expected = dense_walk(matrix, (score * (1 - edge)).numpy(), 10, steps)
    got = edge_walk(edge, score, radius, 10, steps)
    np.testing.assert_allclose(got.numpy(), expected / expected.max(), rtol=1e-9)
    assert float(got.max()) == 1


def test_a_boundary_stops_the_walk():
    """A column of edges parts the map: on its other side nothing arrives, on its own the score evens out."""
    edge, score = torch.zeros(6, 9), torch.zeros(1, 6, 9)
    edge[:, 4], score[0, 2, 1] = 1, 1
    got = edge_walk(edge, score, 5, 10, 1024)[0]
    assert not got[:, 4:].any() and got[:, :4].min() > 0.2
    open_field = edge_walk(0 * edge, score, 5, 10, 1024)[0]
    assert open_field.min() > 0.2


def test_a_constant_stays_and_nothing_is_made():
    row, _ = random_pairs(7, 5, 5)
    score = torch.full((2, 7, 5), 0.3)
    torch.testing.assert_close(affinity_walk(row.float(), score, disk_offsets(5)), score)
    assert not affinity_walk(row, torch.zeros(1, 7, 5), disk_offsets(5)).any()
    assert not edge_walk(torch.zeros(7, 5), torch.zeros(2, 7, 5)).any()
    assert edge_walk(torch.zeros(7, 5), torch.zeros(0, 7, 5)).shape == (0, 7, 5)
    assert not edge_walk(torch.ones(7, 5), torch.rand(2, 7, 5)).any()


def test_without_affinity_everything_stays():
    score = torch.rand(2, 4, 5)
    pairs = len(random_pairs(4, 5, 3)[0])
    torch.testing.assert_close(affinity_walk(torch.zeros(pairs), score, disk_offsets(3)), score)


@pytest.mark.parametrize("steps", [0, 1, 2, 5, 64, 256])
def test_weights_are_those_of_a_power(steps):
    """x^steps = sum_k w_k cos(k arccos x)."""
    weights = power_weights(steps, 1e-15)
    assert all(weight >= 0 for weight in weights) and sum(weights) == pytest.approx(1)
    for x in np.linspace(-1, 1, 9):
        found = sum(weight * math.cos(k * math.acos(x)) for k, weight in enumerate(weights))
        assert found == pytest.approx(x**steps, abs=1e-12)
    assert len(power_weights(256, 1.2e-7)) < 90


def test_shapes_that_do_not_fit():
    with pytest.raises(ValueError, match=r"expected an affinity \(.*\) of the pairs of \(4, 5\), got \(3,\)"):
        affinity_walk(torch.rand(3), torch.rand(1, 4, 5), disk_offsets(5))
    with pytest.raises(ValueError, match=r"expected edge \(h, w\) and score \(K, h, w\), got \(4, 6\) and \(1, 4, 5\)"):
        edge_walk(torch.rand(4, 6), torch.rand(1, 4, 5))
