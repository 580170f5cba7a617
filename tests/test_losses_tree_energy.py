"""Tree energy: the spanning tree and products along its paths by plain loops, hand values, gradients."""

import itertools
import math

import pytest
import torch
from loss_inputs import make_inputs

from spml.losses.gaussian_mixture import LOSS as GAUSSIAN_MIXTURE
from spml.losses.tree_energy import LOSS, tree_energy
from spml.losses.tree_filter import Tree, tree_filter


def problem(height=4, width=5, batch=2, channels=3, seed=0, holes=0.25):
    """Values (B, 2, h, w), features (B, C, h, w) in 0..1 and valid pixels, float64; no two distances are equal."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.rand(batch, 2, height, width, generator=generator, dtype=torch.float64)
    feature = torch.rand(batch, channels, height, width, generator=generator, dtype=torch.float64)
    return values, feature, torch.rand(batch, height, width, generator=generator) >= holes


def spanning_tree(feature, valid):
    """Kruskal by labels that are overwritten: {pixel: {neighbour: squared distance}} of one image's valid pixels."""
    _, height, width = feature.shape
    pixels = [(y, x) for y in range(height) for x in range(width) if valid[y, x]]
    edges = []
    for (y, x), (v, u) in itertools.combinations(pixels, 2):
        if abs(y - v) + abs(x - u) == 1:
            edges.append((sum((c[y, x] - c[v, u]).item() ** 2 for c in feature), (y, x), (v, u)))
    component = {pixel: number for number, pixel in enumerate(pixels)}
    tree = {pixel: {} for pixel in pixels}
    for distance, p, q in sorted(edges):
        if component[p] != component[q]:
            old, new = component[p], component[q]
            component = {pixel: new if c == old else c for pixel, c in component.items()}
            tree[p][q] = tree[q][p] = distance
    return tree


def products(tree, start, sigma):
    """{pixel: product of exp(-d / sigma) along the path from start}."""
    found, waiting = {start: 1.0}, [start]
    while waiting:
        pixel = waiting.pop()
        for neighbour, distance in tree[pixel].items():
            if neighbour not in found:
                found[neighbour] = found[pixel] * math.exp(-distance / sigma)
                waiting.append(neighbour)
    return found


def loop_filter(values, feature, valid, sigma):
    """The filter of one image, a pixel at a time; a pixel that is not valid keeps its value."""
    tree, result = spanning_tree(feature, valid), values.clone()
    for start in tree:
        share = products(tree, start, sigma)
        for k, value in enumerate(values):
            total = sum(weight * value[pixel].item() for pixel, weight in share.items())
            result[k][start] = total / sum(share.values())
    return result


@pytest.mark.parametrize("holes", (0, 0.25, 0.6, 1))
@pytest.mark.parametrize("sigma", (0.05, 0.5))
@pytest.mark.parametrize("size", ((4, 5), (1, 7), (6, 1), (1, 1)))
def test_filter_equals_products_along_paths(size, sigma, holes):
    """Holes cut the valid pixels into parts that do not meet."""
    values, feature, valid = problem(*size, holes=holes)
    tree = Tree.of(feature, valid)
    ours = tree_filter(values, tree, tree.affinity(feature, sigma))
    for image in range(2):
        expected = loop_filter(values[image], feature[image], valid[image], sigma)
        torch.testing.assert_close(ours[image], expected, rtol=1e-9, atol=1e-12)


def test_energy_equals_loops():
    values, colour, valid = problem(holes=0.2)
    _, embedding, _ = problem(seed=1)
    unlabelled = torch.rand(2, 4, 5) < 0.7
    ours = tree_energy(values, 255 * colour, embedding, valid, unlabelled, 0.1)
    for image in range(2):
        low = loop_filter(values[image], colour[image], valid[image], 0.1)
        high = loop_filter(low, embedding[image], valid[image], 1.0)
        difference = (values[image] - high).abs().sum(0)
        assert ours[image].item() == pytest.approx(difference[valid[image] & unlabelled[image]].sum().item(), rel=1e-9)


def test_by_hand():
    """Three pixels in a row, colours 0, 0.1 and 0.1 of red: edges d = 0.01 and 0, sigma 0.02: affinities e = exp(-1/2)
    and 1. The embedding is alike everywhere, so that the second filter takes the mean of the row.

    P of the first class is 1, 0, 0. Low: (1 + 0 + 0) / (1 + 2 e) and e / (2 + e) twice. Y is their mean, everywhere.
    Only the last two are unlabelled: |0 - Y| of both classes, as P sums to one: 2 Y each, 4 Y in all.
    """
    e = math.exp(-0.5)
    y = (1 / (1 + 2 * e) + 2 * e / (2 + e)) / 3
    probability = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 1.0]]).view(1, 2, 1, 3)
    rgb = torch.zeros(1, 3, 1, 3)
    rgb[0, 0, 0, 1:] = 25.5
    valid = torch.ones(1, 1, 3, dtype=torch.bool)
    unlabelled = torch.tensor([[[False, True, True]]])
    value = tree_energy(probability, rgb, torch.zeros(1, 4, 1, 3), valid, unlabelled)
    assert value.item() == pytest.approx(4 * y, rel=1e-6)


@pytest.mark.parametrize("holes", (0, 0.3))
def test_gradcheck_of_the_filter(holes):
    values, feature, valid = problem(3, 4, holes=holes)
    tree = Tree.of(feature, valid)

    def filtered(v, f):
        return tree_filter(v, tree, tree.affinity(f, 0.5))

    assert torch.autograd.gradcheck(filtered, (values.requires_grad_(), feature.requires_grad_()))


def test_gradcheck_of_the_energy():
    values, colour, valid = problem(3, 4, holes=0.2)
    _, embedding, _ = problem(3, 4, seed=1)
    unlabelled = torch.rand(2, 3, 4) < 0.7

    def energy(v, f):
        return tree_energy(v.softmax(1), 255 * colour, f, valid, unlabelled, 0.1)

    assert torch.autograd.gradcheck(energy, (3 * values.requires_grad_(), embedding.requires_grad_()))


def test_a_zero_affinity_has_a_gradient():
    """An edge that lets nothing pass, as far embeddings have it, and no division by it."""
    values, feature, valid = problem(2, 3, holes=0)
    tree = Tree.of(feature, valid)
    affinity = tree.affinity(feature, 0.5)
    affinity[3] = 0
    assert torch.autograd.gradcheck(
        lambda v, a: tree_filter(v, tree, a * tree.connected), (values.requires_grad_(), affinity.requires_grad_())
    )


def test_tree_is_rooted_in_the_middle_and_ordered():
    """A row of nine pixels has the depth four; each parent stands before its child."""
    feature = torch.rand(1, 1, 1, 9).cumsum(3)
    tree = Tree.of(feature, torch.ones(1, 1, 9, dtype=torch.bool))
    assert len(tree.levels) == 4 and tree.pixel[0] == 4 and tree.connected.sum() == 8
    values, feature, valid = problem(7, 8, batch=3)
    tree = Tree.of(feature, valid)
    place = torch.arange(len(tree.parent))
    assert (tree.parent[3:] < place[3:]).all() and tree.parent[:3].tolist() == [0, 1, 2]
    assert tree.pixel.sort().values.tolist() == place.tolist()
    assert tree.levels[0][0] == 3 and tree.levels[-1][1] == len(place)
    assert [end for _, end in tree.levels[:-1]] == [start for start, _ in tree.levels[1:]]


def test_equal_colours_give_the_mean():
    """No edge is longer than another, and distances of zero are edges all the same."""
    values = torch.rand(1, 2, 6, 7)
    feature = torch.zeros(1, 3, 6, 7)
    tree = Tree.of(feature, torch.ones(1, 6, 7, dtype=torch.bool))
    ours = tree_filter(values, tree, tree.affinity(feature, 1.0))
    torch.testing.assert_close(ours, values.mean((2, 3), keepdim=True).expand_as(values))


def test_features_that_are_not_finite_do_not_hang():
    feature = torch.rand(1, 3, 4, 5)
    feature[0, 0, 1] = torch.nan
    feature[0, 0, 3] = torch.inf
    tree = Tree.of(feature, torch.ones(1, 4, 5, dtype=torch.bool))
    assert len(tree.pixel) == 20


def test_a_cell_with_a_labelled_pixel_is_labelled():
    inputs = make_inputs(small=(3, 4))
    inputs.label[:, 1:, :12] = 254
    inputs.label[:, 1::4, 1:12:4] = 1  # one pixel of each valid cell
    assert LOSS.function(inputs, LOSS.settings()) == 0
    inputs.label[0, 1, 1] = 254
    assert LOSS.function(inputs, LOSS.settings()) > 0


@pytest.mark.parametrize("loss", (LOSS, GAUSSIAN_MIXTURE))
def test_the_length_of_embeddings_says_nothing(loss):
    """They grow to hundreds in a real network, at which raw distances would find no pixel like another."""
    inputs = make_inputs(small=(3, 4))
    value = loss.function(inputs, loss.settings())
    inputs.embedding = (300 * inputs.embedding).detach().requires_grad_()
    torch.testing.assert_close(loss.function(inputs, loss.settings()), value)
    (gradient,) = torch.autograd.grad(loss.function(inputs, loss.settings()), inputs.embedding)
    assert gradient.abs().max() > 1e-9
