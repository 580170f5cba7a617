"""Scores that are there before the strokes, by hand."""

import numpy as np
import torch

from spml.inference.prior import corrected, mean, on_grid
from spml.propagate.spread import Field


def field():
    """Two cells, whose only feature tells them apart."""
    return Field((torch.tensor([[[1.0, -1.0]]]),), torch.zeros(0), torch.zeros(4, 1, 2))


def test_a_prior_of_any_size_comes_onto_the_cells():
    ids, score = on_grid(np.array([[[1, 0], [0, 0]], [[0, 1], [1, 1]]]), field())
    assert ids == [0, 1]
    torch.testing.assert_close(score, torch.tensor([[[0.5, 0.0]], [[0.5, 1.0]]]))


def test_the_mean_goes_over_the_classes_of_both():
    one, other = torch.tensor([[[1.0]], [[0.0]]]), torch.tensor([[[0.5]], [[0.5]]])
    ids, score = mean(([0, 2], one), ([1, 2], other))
    assert ids == [0, 1, 2] and score.flatten().tolist() == [0.5, 0.25, 0.25]


def test_strokes_correct_the_cells_that_look_like_theirs():
    begun = [3, 4], torch.tensor([[[1.0, 1.0]], [[0.0, 0.0]]])
    nothing = torch.zeros(0, dtype=torch.int64)
    ids, score = corrected(begun, field(), torch.zeros(0, 1), nothing, nothing)
    assert ids == [3, 4] and torch.equal(score, begun[1])
    cell = torch.tensor([0])
    ids, score = corrected(begun, field(), field().at(cell), cell, torch.tensor([1]))  # a class that is new
    assert ids == [1, 3, 4]
    assert score[0, 0, 0] > 0.5 > score[0, 0, 1] and score[1, 0, 0] < 0.5 < score[1, 0, 1]
    assert abs(score[2]).max() < 1e-5
