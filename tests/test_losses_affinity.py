"""AffinityNet's and IRN's losses against loops over all pairs of pixels, by hand, and by gradcheck."""

import math

import pytest
import torch
from loss_inputs import Half

from spml.grouping.memory import ALONE
from spml.losses.affinity import PairKinds, affinity_terms, cell_label, displacement_terms
from spml.propagate.pairs import by_offset, disk_offsets, feature_affinity, of_pairs, path, path_affinity

K = 4


def problem(height=6, width=7, batch=2, channels=3, seed=0):
    """Features, edges, displacements, and labels with unlabelled and void pixels."""
    generator = torch.Generator().manual_seed(seed)
    feature = torch.randn(batch, channels, height, width, generator=generator, dtype=torch.float64)
    edge = torch.rand(batch, height, width, generator=generator, dtype=torch.float64)
    displacement = 2 * torch.randn(batch, 2, height, width, generator=generator, dtype=torch.float64)
    label = torch.randint(0, K, (batch, height, width), generator=generator)
    label[torch.rand(label.shape, generator=generator) < 0.2] = 254
    label[:, 0, 2:5] = 255
    return feature.requires_grad_(), edge.requires_grad_(), displacement.requires_grad_(), label


def near(height, width, radius):
    """Every unordered pair of different pixels that are nearer than `radius`, the upper or left one first."""
    pixels = [(y, x) for y in range(height) for x in range(width)]
    return [(p, q) for p in pixels for q in pixels if p < q and math.hypot(q[0] - p[0], q[1] - p[1]) < radius - 1e-9]


def kind_of(first, second, background):
    if first >= K or second >= K:
        return None
    if first != second:
        return "different"
    return "background" if first == background else "objects"


def means(values):
    return {name: sum(found) / max(len(found), 1) for name, found in values.items()}


def loop_feature(feature, i, j):
    gaps = [abs(float(channel[i] - channel[j])) for channel in feature.detach()]
    return math.exp(-sum(gaps) / len(gaps))


def loop_path(edge, i, j):
    """1 - the largest edge among the pixels of the bounding box that are nearer to the line than one."""
    dy, dx = j[0] - i[0], j[1] - i[1]
    largest = 0.0
    for y in range(min(i[0], j[0]), max(i[0], j[0]) + 1):
        for x in range(min(i[1], j[1]), max(i[1], j[1]) + 1):
            distance = abs(dy * (x - i[1]) - dx * (y - i[0])) / math.hypot(dy, dx)
            if distance < 1 - 1e-9:
                largest = max(largest, float(edge.detach()[y, x]))
    return 1 - largest


def loop_affinity_terms(values, label, radius, background, affinity):
    found = {"background": [], "objects": [], "different": []}
    for value, own in zip(values, label, strict=True):
        for i, j in near(*own.shape, radius):
            kind = kind_of(int(own[i]), int(own[j]), background)
            if kind:
                w = affinity(value, i, j)
                found[kind].append(-math.log(1e-5 + (1 - w if kind == "different" else w)))
    return means(found)


def loop_displacement_terms(displacement, label, radius, background):
    found = {"displacement_objects": [], "displacement_background": []}
    for own_move, own in zip(displacement, label, strict=True):
        for i, j in near(*own.shape, radius):
            kind = kind_of(int(own[i]), int(own[j]), background)
            for axis in range(2):
                gap = float((own_move[axis][i] - own_move[axis][j]).detach())
                if kind == "objects":
                    found["displacement_objects"].append(abs(gap - (j[axis] - i[axis])))
                elif kind == "background":
                    found["displacement_background"].append(abs(gap))
    return means(found)


def plain(terms):
    return {name: float(value.detach()) for name, value in terms.items()}


def test_published_numbers_of_offsets():
    for radius, count in ((5, 34), (10, 152), (2, 4), (1, 0)):
        offsets = disk_offsets(radius)
        assert len(offsets) == count == len({*offsets, *((-dy, -dx) for dy, dx in offsets)}) / 2
        assert all(dy * dy + dx * dx < radius * radius and dy >= 0 for dy, dx in offsets)


@pytest.mark.parametrize("background", [0, 2, None])
@pytest.mark.parametrize("radius", [2, 3, 5])
def test_affinitynet_equals_loops(radius, background):
    feature, _, _, label = problem()
    offsets = disk_offsets(radius)
    kinds = PairKinds.of(label, offsets, K, background)
    got = affinity_terms(feature_affinity(feature, offsets), kinds)
    assert plain(got) == pytest.approx(loop_affinity_terms(feature, label, radius, background, loop_feature), rel=1e-9)


@pytest.mark.parametrize("size", [(6, 7), (3, 9), (9, 2)])
@pytest.mark.parametrize("radius", [2, 5, 10])
def test_irn_equals_loops(radius, size):
    """A radius of 10 is wider than the maps are."""
    _, edge, displacement, label = problem(*size)
    offsets = disk_offsets(radius)
    kinds = PairKinds.of(label, offsets, K, 1)
    got = affinity_terms(path_affinity(edge, offsets), kinds)
    assert plain(got) == pytest.approx(loop_affinity_terms(edge, label, radius, 1, loop_path), rel=1e-9)
    moved = displacement_terms(displacement, kinds, offsets)
    assert plain(moved) == pytest.approx(loop_displacement_terms(displacement, label, radius, 1), rel=1e-9)


def test_affinitynet_by_hand():
    """Four pixels in a row, a b c d: background, background, object 1, void; two channels; radius 3.

    Pairs: a-b background, a-c and b-c different; d is in none. Features a (0, 0), b (2, 0), c (0, 4):
    W_ab = exp(-(2 + 0) / 2) = 1/e, W_ac = exp(-2), W_bc = exp(-(2 + 4) / 2) = exp(-3).
    background -ln(1/e) = 1; objects no pair, 0; different -(ln(1 - exp(-2)) + ln(1 - exp(-3))) / 2.
    """
    feature = torch.tensor([[0.0, 2, 0, 9], [0, 0, 4, 9]], dtype=torch.float64).view(1, 2, 1, 4)
    label = torch.tensor([[[0, 0, 1, 255]]])
    offsets = disk_offsets(3)
    got = affinity_terms(feature_affinity(feature, offsets), PairKinds.of(label, offsets, K))
    assert float(got["background"]) == pytest.approx(1, abs=1e-4) and float(got["objects"]) == 0
    expected = -(math.log(1 - math.exp(-2)) + math.log(1 - math.exp(-3))) / 2
    assert float(got["different"]) == pytest.approx(expected, abs=1e-4)


def test_irn_by_hand():
    """Three pixels in a row of one object, edges .1, .5, .2: W of the neighbours .5 and .5, of the ends .5, too.

    The path from the first to the last goes over the middle. objects -ln .5. Displacements along x are 1, 0, -1, as all
    point to the middle: displacement_objects 0. With 0, 0, 0, the gaps |D_i - D_j - (j - i)| are 1, 1 and 2, and 0
    along y: the mean over three pairs and both components is 4/6.
    """
    label, offsets = torch.ones(1, 1, 3, dtype=torch.int64), disk_offsets(3)
    kinds = PairKinds.of(label, offsets, K)
    edge = torch.tensor([[[0.1, 0.5, 0.2]]], dtype=torch.float64)
    assert plain(affinity_terms(path_affinity(edge, offsets), kinds))["objects"] == pytest.approx(math.log(2), abs=1e-4)
    move = torch.zeros(1, 2, 1, 3, dtype=torch.float64)
    assert plain(displacement_terms(move, kinds, offsets))["displacement_objects"] == pytest.approx(4 / 6)
    move[0, 1, 0] = torch.tensor([1.0, 0, -1])
    assert plain(displacement_terms(move, kinds, offsets))["displacement_objects"] == 0


def test_paths():
    assert path((0, 2)) == [(0, 0), (0, 1), (0, 2)]
    assert path((1, 1)) == [(0, 0), (0, 1), (1, 0), (1, 1)]  # the corners are 0.71 from the diagonal
    assert sorted(path((2, -1))) == [(0, -1), (0, 0), (1, -1), (1, 0), (2, -1), (2, 0)]
    for offset in disk_offsets(10):
        assert {(0, 0), offset} <= set(path(offset))


@pytest.mark.parametrize("part", ["feature", "edge", "displacement"])
def test_gradcheck(part):
    feature, edge, displacement, label = problem(3, 3, batch=1, channels=2)
    offsets = disk_offsets(4)
    kinds = PairKinds.of(label, offsets, K)
    losses = {
        "feature": (feature, lambda x: sum(affinity_terms(feature_affinity(x, offsets), kinds).values())),
        "edge": (edge, lambda x: sum(affinity_terms(path_affinity(x, offsets), kinds).values())),
        "displacement": (displacement, lambda x: sum(displacement_terms(x, kinds, offsets).values())),
    }
    given, loss = losses[part]
    assert torch.autograd.gradcheck(loss, given)


def test_gradients_of_the_affinities_themselves():
    """Of every pair, also through a map that is not contiguous."""
    feature, edge, _, _ = problem(3, 2, batch=1, channels=2)
    offsets = disk_offsets(3)
    assert torch.autograd.gradcheck(lambda x: feature_affinity(x.transpose(2, 3), offsets), feature)
    assert torch.autograd.gradcheck(lambda x: path_affinity(x.transpose(1, 2), offsets), edge)


@pytest.mark.parametrize(
    "label",
    [
        torch.tensor([[[1]]]),  # one pixel: no pair
        torch.full((1, 4, 5), 255),
        torch.full((2, 3, 3), 254),
        torch.tensor([[[255, 1, 255], [255, 255, 255]]]),  # one labelled pixel
    ],
)
def test_without_pairs_every_term_is_zero_and_has_a_gradient(label):
    size, offsets = label.shape[1:], disk_offsets(5)
    feature = torch.randn(len(label), 3, *size, requires_grad=True)
    edge, move = torch.rand(len(label), *size, requires_grad=True), torch.randn(len(label), 2, *size).requires_grad_()
    kinds = PairKinds.of(label, offsets, K)
    terms = [affinity_terms(feature_affinity(feature, offsets), kinds), displacement_terms(move, kinds, offsets)]
    terms.append(affinity_terms(path_affinity(edge, offsets), kinds))
    for found in terms:
        assert plain(found) == dict.fromkeys(found, 0.0)
        sum(found.values()).backward()
    for given in (feature, edge, move):
        assert given.grad is not None and not given.grad.any()


@pytest.mark.parametrize(("value", "term"), [(0, "background"), (3, "objects")])
def test_one_class_has_one_term(value, term):
    label, offsets = torch.full((1, 4, 5), value), disk_offsets(3)
    got = plain(affinity_terms(feature_affinity(torch.randn(1, 3, 4, 5), offsets), PairKinds.of(label, offsets, K)))
    assert got[term] > 0 and sum(got.values()) == got[term]


def test_affinities_at_their_ends_stay_finite():
    """Equal features of different classes, and an edge of one within a class: -ln 1e-5 at most."""
    offsets = disk_offsets(2)
    different = PairKinds.of(torch.tensor([[[0, 1]]]), offsets, K)
    feature = torch.zeros(1, 3, 1, 2, requires_grad=True)
    loss = affinity_terms(feature_affinity(feature, offsets), different)["different"]
    assert float(loss) == pytest.approx(-math.log(1e-5), rel=1e-2)
    edge = torch.ones(1, 1, 2, requires_grad=True)
    same = PairKinds.of(torch.tensor([[[1, 1]]]), offsets, K)
    other = affinity_terms(path_affinity(edge, offsets), same)["objects"]
    (loss + other).backward()
    assert torch.isfinite(feature.grad).all() and torch.isfinite(edge.grad).all()


def test_void_and_unlabelled_pixels_give_and_take_nothing():
    feature, edge, displacement, label = problem()
    offsets = disk_offsets(5)
    kinds = PairKinds.of(label, offsets, K)
    sum(affinity_terms(feature_affinity(feature, offsets), kinds).values()).backward()
    sum(displacement_terms(displacement, kinds, offsets).values()).backward()
    for given in (feature, displacement):
        assert not given.grad.permute(0, 2, 3, 1)[label >= K].any() and given.grad.any()


def test_each_process_has_its_share_of_one_mean():
    feature, _, displacement, label = problem(batch=4)
    offsets = disk_offsets(4)

    def terms(rows, exchange):
        kinds = PairKinds.of(label[rows], offsets, K)
        affinity = feature_affinity(feature[rows], offsets)
        move = displacement_terms(displacement[rows], kinds, offsets, exchange)
        return plain(affinity_terms(affinity, kinds, exchange)) | plain(move)

    told, halves = ([], []), (slice(0, 1), slice(1, 4))
    for own, rows in zip(told, halves, strict=True):
        terms(rows, Half(own))
    shares = [terms(rows, Half([], other)) for rows, other in zip(halves, told[::-1], strict=True)]
    whole = terms(slice(None), ALONE)
    for name, value in whole.items():
        assert shares[0][name] + shares[1][name] == pytest.approx(value, rel=1e-9)


@pytest.mark.parametrize("size", [(16, 24), (17, 23), (1, 1), (3, 20)])
@pytest.mark.parametrize("stride", [4, 8])
def test_cells_have_their_most_frequent_label(size, stride):
    generator = torch.Generator().manual_seed(1)
    label = torch.randint(0, 6, (2, *size), generator=generator)
    label[label == 4], label[label == 5] = 254, 255
    got = cell_label(label, stride, K)
    assert got.shape == (2, math.ceil(size[0] / stride), math.ceil(size[1] / stride))
    for image, own in zip(label, got, strict=True):
        for y, x in ((y, x) for y in range(own.shape[0]) for x in range(own.shape[1])):
            part = image[y * stride : (y + 1) * stride, x * stride : (x + 1) * stride]
            counts = [int((part == k).sum()) for k in range(K)]
            outside = stride * stride - sum(counts)  # the cell's other pixels, and those beyond the border
            best = max(range(K), key=lambda k: (counts[k], -k))
            assert int(own[y, x]) == (best if counts[best] >= outside else 255)


def test_maps_by_offset_are_the_reverse_of_pairs():
    maps, offsets = torch.arange(12).view(3, 4), disk_offsets(4)
    values = of_pairs(maps, offsets, lambda first, second: second - first)
    for (dy, dx), found in zip(offsets, by_offset(values, offsets, (3, 4)), strict=True):
        assert found.shape == (max(3 - abs(dy), 0), max(4 - abs(dx), 0)) and (found == 4 * dy + dx).all()
