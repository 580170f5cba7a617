"""Spreading strokes: closed forms and slow references on tiny features."""

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from spml.propagate import spread
from spml.propagate.spread import (
    Field,
    add,
    correct,
    fit,
    gather,
    neighbour_hold,
    probabilities,
    stroke_cells,
    thin,
    walk,
)


def field_of(seed=0, size=(6, 8), levels=((3, 6, 8), (5, 3, 4)), whole=2):
    generator = torch.Generator().manual_seed(seed)
    maps = tuple(torch.randn(shape, generator=generator) for shape in levels)
    return Field(maps, torch.randn(whole, generator=generator), torch.rand(4, *size, generator=generator))


def joined(field):
    """Every feature at every cell, (h w, D): what a Field never forms."""
    maps = [F.interpolate(x[None], field.size, mode="bilinear", align_corners=False)[0] for x in field.levels]
    cells = torch.cat(maps).flatten(1).T
    return torch.cat([cells, field.whole.expand(len(cells), -1)], 1)


def test_a_field_reads_and_scores_its_cells_as_the_joined_map_does():
    field = field_of()
    cells = joined(field)
    assert field.channels == cells.shape[1] == 10
    torch.testing.assert_close(field.at(torch.arange(48)), cells)
    torch.testing.assert_close(field.at(torch.tensor([47, 0, 13])), cells[[47, 0, 13]])
    weight = torch.randn(11, 3)
    torch.testing.assert_close(field.score(weight).flatten(1).T, cells @ weight[:-1] + weight[-1], rtol=1e-4, atol=1e-5)


def slow_cells(stroke, size, limit):
    votes = {}
    for y, x in itertools.product(range(stroke.shape[0]), range(stroke.shape[1])):
        if stroke[y, x] < limit:
            cell = (y * size[0] // stroke.shape[0]) * size[1] + x * size[1] // stroke.shape[1]
            votes.setdefault(cell, []).append(int(stroke[y, x]))
    return {cell: min(set(found), key=lambda k: (-found.count(k), k)) for cell, found in votes.items()}


@pytest.mark.parametrize("shape,size", [((13, 17), (3, 4)), ((2, 2), (4, 4)), ((8, 8), (8, 8)), ((5, 1), (2, 1))])
def test_cells_take_the_most_frequent_class_of_their_strokes(shape, size):
    rng = np.random.default_rng(0)
    stroke = rng.choice([0, 1, 2, 7, 254, 255], shape).astype(np.uint8)
    for limit in (254, 3):
        cell, label = stroke_cells(torch.from_numpy(stroke), size, limit)
        assert dict(zip(cell.tolist(), label.tolist(), strict=True)) == slow_cells(stroke, size, limit)
        assert cell.tolist() == sorted(set(cell.tolist()))


def test_one_pixel_and_none():
    stroke = torch.full((20, 30), 254, dtype=torch.uint8)
    assert [len(part) for part in stroke_cells(stroke, (5, 6))] == [0, 0]
    stroke[19, 29], stroke[0, 0] = 3, 255
    assert [part.tolist() for part in stroke_cells(stroke, (5, 6))] == [[29], [3]]


def test_thinning_keeps_the_ends_and_every_class():
    cell, label = torch.arange(10) * 2, torch.tensor([0, 0, 0, 0, 0, 0, 0, 0, 0, 5])
    kept, classes = thin(cell, label, 3)
    assert kept.tolist() == [0, 8, 16, 18] and classes.tolist() == [0, 0, 0, 5]
    assert thin(cell, label, 100)[0].tolist() == cell.tolist()
    assert len(thin(cell[:0], label[:0], 3)[0]) == 0


def slow_fit(rows, target, weight, penalty):
    """By least squares on weighted rows, with the penalty as rows of its own."""
    root = weight.sqrt()[:, None]
    size = rows.shape[1]
    ridge = torch.cat([penalty**0.5 * torch.eye(size), torch.zeros(size, 1)], 1).double()
    system = torch.cat([root * torch.cat([rows, torch.ones(len(rows), 1)], 1).double(), ridge])
    right = torch.cat([root * target.double(), torch.zeros(size, target.shape[1]).double()])
    return torch.linalg.lstsq(system, right).solution.float()


def examples(seed, count, classes):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 4, generator=generator), torch.randint(0, classes, (count,), generator=generator)


def test_the_fit_of_own_examples_is_the_ridge_regression():
    rows, label = examples(0, 30, 3)
    classes, weight = fit(gather(rows, label), {})
    want = slow_fit(rows, F.one_hot(label, 3), torch.full((30,), 1 / 30).double(), spread.PENALTY)
    assert classes == [0, 1, 2]
    torch.testing.assert_close(weight, want, rtol=1e-3, atol=1e-4)


def test_others_weigh_the_same_class_by_class():
    own_rows, own_label = examples(0, 10, 2)
    rows, label = examples(1, 40, 3)
    label[:30], image = 2, torch.arange(40) % 2
    others = add(*[gather(rows[image == i], label[image == i]) for i in (0, 1)])
    count = torch.bincount(label).double()
    weight = torch.cat(
        [
            torch.full((10,), spread.OWN_SHARE / 10).double(),
            (1 - spread.OWN_SHARE) / (count > 0).sum() / count[label],
        ]
    )
    target = F.one_hot(torch.cat([own_label, label]), 3)
    want = slow_fit(torch.cat([own_rows, rows]), target, weight, spread.PENALTY)
    classes, got = fit(gather(own_rows, own_label), others)
    assert classes == [0, 1, 2]
    torch.testing.assert_close(got, want, rtol=1e-3, atol=1e-4)


def test_a_correction_is_the_ridge_regression_of_what_strokes_say_beyond_the_scores():
    field, label = field_of(2), torch.tensor([0, 2, 2])
    cell = torch.tensor([3, 20, 41])
    score = torch.rand(3, 6, 8).softmax(0)
    rows = joined(field).double()
    wanted = torch.cat([F.one_hot(label, 3) - score.flatten(1).T[cell], torch.zeros(48, 3)]).double()
    share = spread.OWN_SHARE
    weight = torch.cat([torch.full((3,), share / 3), torch.full((48,), (1 - share) / 48)]).double()  # 48 < CELLS^2
    solved = slow_fit(torch.cat([rows[cell], rows]), wanted, weight, spread.PENALTY).double()
    want = score.flatten(1).T + rows @ solved[:-1] + solved[-1]
    got = correct(field, score, field.at(cell), cell, label)
    torch.testing.assert_close(got.flatten(1).T.double(), want, rtol=1e-3, atol=1e-3)


def test_scores_that_the_strokes_agree_with_stay():
    field, cell = field_of(3), torch.tensor([0, 47])
    score = F.one_hot(torch.zeros(6, 8).long(), 2).permute(2, 0, 1).float()
    nothing = torch.zeros(0, dtype=torch.int64)
    torch.testing.assert_close(correct(field, score, field.at(cell), cell, torch.zeros(2).long()), score)
    torch.testing.assert_close(correct(field, score, field.at(nothing), nothing, nothing), score)


def test_what_is_added_can_be_taken_away():
    first, second = gather(*examples(0, 9, 2)), gather(*examples(1, 7, 4))
    left = add(add(first, second), second, -1)
    for key in first:
        torch.testing.assert_close(left[key], first[key])
    assert all(left[key].abs().max() < 1e-6 for key in set(second) - set(first))


def test_one_class_scores_one_everywhere():
    field = field_of()
    classes, weight = fit(gather(field.at(torch.tensor([4])), torch.tensor([7])), {})
    assert classes == [7]
    score = field.score(weight)
    torch.testing.assert_close(score, torch.ones(1, 6, 8), rtol=0, atol=0.01)
    assert (probabilities(walk(score, field.hold)) == 1).all()


def test_without_examples_there_is_no_fit():
    with pytest.raises(ValueError, match="at least one example"):
        fit({}, {})


def slow_walk(score, hold, anchor):
    """The minimum by one dense system."""
    height, width = score.shape[1:]
    system = anchor * torch.eye(height * width, dtype=torch.float64)
    for plane, (down, right) in zip(hold, spread.OFFSETS, strict=True):
        for y, x in itertools.product(range(height), range(width)):
            if y + down < height and 0 <= x + right < width:
                i, j, w = y * width + x, (y + down) * width + x + right, float(plane[y, x])
                system[i, i] += w
                system[j, j] += w
                system[i, j] -= w
                system[j, i] -= w
    solved = torch.linalg.solve(system, anchor * score.double().flatten(1).T)
    return solved.T.reshape(score.shape).float()


@pytest.mark.parametrize("size", [(4, 5), (1, 6), (5, 1), (1, 1), (2, 2)])
def test_the_walk_is_the_minimum(size):
    torch.manual_seed(0)
    score, hold = torch.randn(3, *size), torch.rand(4, *size)
    torch.testing.assert_close(walk(score, hold, 100, 0.1), slow_walk(score, hold, 0.1), rtol=1e-3, atol=1e-4)
    assert torch.equal(walk(score, hold, 0), score)


def test_the_walk_leaves_constants_and_stays_within_the_scores():
    hold = torch.rand(4, 5, 7)
    torch.testing.assert_close(walk(torch.full((2, 5, 7), 0.3), hold), torch.full((2, 5, 7), 0.3))
    walked = walk(score := torch.rand(2, 5, 7), hold, 200)
    assert walked.min() >= score.min() - 1e-4 and walked.max() <= score.max() + 1e-4


def test_nothing_walks_over_a_border_that_holds_nothing():
    colour = torch.zeros(3, 4, 6)
    colour[:, :, 3:] = 1
    hold = neighbour_hold(torch.ones(2, 4, 6), colour)
    score = torch.zeros(1, 4, 6)
    score[:, 2, 1] = 1
    walked = walk(score, hold, 60)
    assert walked[0, :, :3].min() > 0.01 and walked[0, :, 3:].abs().max() < 1e-6


def test_hold_falls_with_the_angle_and_the_colour():
    feature, colour = torch.zeros(2, 2, 2), torch.zeros(3, 2, 2)
    feature[0] = 3.0
    feature[:, 0, 1] = torch.tensor([1.0, 1.0])
    colour[0, 1, 0] = 0.1
    hold = neighbour_hold(feature, colour)
    angle = np.exp(-spread.FEATURE_FALL * (1 - 0.5**0.5))
    by_colour = np.exp(-spread.COLOUR_FALL * 0.01 / 2)
    assert float(hold[0, 0, 0]) == pytest.approx(angle, rel=1e-4)  # right of it
    assert float(hold[1, 0, 0]) == pytest.approx(by_colour, rel=1e-4)  # below
    assert float(hold[2, 0, 0]) == pytest.approx(0.5**0.5, rel=1e-4)  # below on the right
    assert float(hold[3, 0, 1]) == pytest.approx(angle * by_colour / 2**0.5, rel=1e-4)  # below on the left
    assert hold[0, :, 1].abs().sum() == hold[1, 1].abs().sum() == hold[3, :, 0].abs().sum() == 0
