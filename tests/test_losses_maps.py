"""Maps at another size: means of valid pixels alone, probabilities that sum to one."""

import pytest
import torch
from loss_inputs import make_inputs

from spml.losses.maps import Maps, mean, probabilities, scaled, shrink_colours
from spml.losses.quadratic import quadratic


def test_colours_by_hand():
    """Two cells of 1 x 2 pixels. The first has the colours 10 and 30, of which the second is void: 10, and valid, as
    half of it is. The second cell has 10 void pixels in every other place: none left, not valid, colour 0."""
    rgb = torch.tensor([10.0, 30, 50, 70]).expand(1, 3, 1, 4)
    valid = torch.tensor([[[True, False, False, False]]])
    colour, kept = shrink_colours(rgb, valid, (1, 2))
    assert colour[0, 0].tolist() == [[10, 0]] and kept.tolist() == [[[True, False]]]
    colour, kept = shrink_colours(rgb, torch.ones_like(valid), (1, 2))
    assert colour[0, 0].tolist() == [[20, 60]] and kept.all()


def test_a_third_of_a_cell_is_too_little():
    valid = torch.tensor([[[True, False, False]]])
    colour, kept = shrink_colours(torch.full((1, 3, 1, 3), 9.0), valid, (1, 1))
    assert not kept.any() and not colour.any()


@pytest.mark.parametrize("small", ((3, 4), (12, 16), (24, 40)))
def test_probabilities_sum_to_one(small):
    probability = probabilities(torch.randn(2, 5, *small), (12, 16))
    assert probability.shape == (2, 5, 12, 16)
    torch.testing.assert_close(probability.sum(1), torch.ones(2, 12, 16))


def test_larger_scores_are_averaged_after_the_softmax():
    """Scores (0, ln 3) and (ln 3, 0) of two pixels: probabilities (1/4, 3/4) and (3/4, 1/4), on average 1/2."""
    logit = torch.tensor([[0.0, 3.0], [3.0, 0.0]]).log1p().mul(torch.tensor(3.0).log() / torch.tensor(4.0).log())
    torch.testing.assert_close(probabilities(logit.view(1, 2, 1, 2), (1, 1)).flatten(), torch.tensor([0.5, 0.5]))


def test_sizes_and_means():
    inputs = make_inputs(size=(12, 16))
    assert scaled(inputs, 0.5) == (6, 8) and scaled(inputs, 0.01) == (1, 1)
    maps = Maps.of(inputs, (6, 8))
    assert maps.rgb.shape == (2, 3, 6, 8) and maps.valid.shape == (2, 6, 8)
    assert not maps.rgb[~maps.valid[:, None].expand_as(maps.rgb)].any()
    energy = torch.tensor([3.0, 5.0], requires_grad=True)
    assert mean(energy, torch.tensor(4), inputs) == 2
    assert mean(0 * energy, torch.tensor(0), inputs) == 0


def test_quadratic_by_hand():
    """W = [[2, 1], [1, 2]], S = (1, 3): W S = (5, 7), S' W S = 26, gradient (10, 14)."""
    kernel = torch.tensor([[2.0, 1.0], [1.0, 2.0]], dtype=torch.float64)
    values = torch.tensor([1.0, 3.0], dtype=torch.float64).view(1, 1, 1, 2).requires_grad_()

    def filtered(v):
        return v @ kernel

    value = quadratic(values, filtered)
    assert value.item() == 26
    assert torch.autograd.grad(value.sum(), values)[0].flatten().tolist() == [10, 14]
    assert torch.autograd.gradcheck(lambda v: quadratic(v, filtered), torch.randn(2, 3, 4, 2).double().requires_grad_())
