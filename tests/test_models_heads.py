"""Decoders by closed forms: ramps stay ramps, maxima go back, sums are sums; and rescaling keeps cells in place."""

import pytest
import torch
import torch.nn.functional as F

from spml.models.backbones.base import Options
from spml.models.backbones.segnet import PoolingEncoder
from spml.models.heads.fcn import LearnedUpsampling, SkipScores
from spml.models.heads.segnet import unpool
from spml.models.heads.unet import used_levels
from spml.models.layers import rescale


def ramp(height, width, stride):
    """y + 2 x at the centres of cells of a stride, in image pixels: (1, 1, h, w)."""
    y = (torch.arange(height) + 0.5) * stride
    x = (torch.arange(width) + 0.5) * stride
    return (y[:, None] + 2 * x[None, :])[None, None]


@pytest.mark.parametrize("factor", [2, 3, 4, 8])
def test_learned_upsampling_starts_as_bilinear(factor):
    layer = LearnedUpsampling(3, factor)
    x = torch.randn(2, 3, 4, 5)
    torch.testing.assert_close(layer(x), F.interpolate(x, scale_factor=factor, mode="bilinear"))
    inside = slice(factor, -factor)
    enlarged = layer(ramp(5, 6, factor).expand(-1, 3, -1, -1))[..., inside, inside]
    torch.testing.assert_close(enlarged, ramp(5 * factor, 6 * factor, 1)[..., inside, inside].expand(-1, 3, -1, -1))


def test_learned_upsampling_learns():
    layer = LearnedUpsampling(2, 2).double()
    assert torch.autograd.gradcheck(layer, torch.randn(1, 2, 2, 3, dtype=torch.float64, requires_grad=True))
    layer(torch.randn(1, 2, 2, 3, dtype=torch.float64)).square().sum().backward()
    assert layer.weight.grad.abs().min() > 0


@torch.no_grad()
def test_skips_add_up():
    """Scores of constant maps: 1 * 2 + 3 * 5 everywhere, whatever is interpolated on the way."""
    head = SkipScores((1, 0), (1, 1), (32, 16), 1)
    for layer, weight in zip(head.score, (2.0, 5.0), strict=True):
        layer.weight.fill_(weight)
    maps = [torch.full((1, 1, 3, 5), 3.0), torch.full((1, 1, 2, 3), 1.0)]  # strides 16 and 32 of 48 x 80
    torch.testing.assert_close(head(maps), torch.full((1, 1, 12, 20), 17.0))


def test_unpooling_puts_maxima_back():
    x = torch.tensor([[1.0, 2.0, 0.5], [4.0, 3.0, 0.1], [0.2, 0.3, 0.6]])[None, None]
    pooled, index = F.max_pool2d(x, 2, ceil_mode=True, return_indices=True)
    expected = torch.tensor([[0.0, 0.0, 0.5], [4.0, 0.0, 0.0], [0.0, 0.3, 0.6]])[None, None]
    torch.testing.assert_close(unpool(pooled, index, (3, 3)), expected)
    x = torch.randn(2, 3, 8, 6)
    pooled, index = F.max_pool2d(x, 2, return_indices=True)
    torch.testing.assert_close(unpool(pooled, index, (8, 6)), F.max_unpool2d(pooled, index, 2))
    pooled = pooled.double().requires_grad_()
    assert torch.autograd.gradcheck(lambda value: unpool(value, index, (8, 6)), pooled)


def test_the_encoder_remembers_its_maxima():
    encoder = PoolingEncoder(Options()).eval()
    maps = encoder.stages(torch.randn(1, 3, 11, 14))
    for level in range(1, 4):
        place = unpool(maps[level], maps.indices[level], maps[level - 1].shape[-2:])
        again, _ = F.max_pool2d(place, 2, ceil_mode=True, return_indices=True)
        torch.testing.assert_close(again, maps[level])  # after ReLU no maximum is negative


def test_levels_of_a_unet():
    assert used_levels((2, 4, 8, 16, 32)) == [4, 3, 2, 1]
    assert used_levels((4, 8, 8, 8)) == [3, 0]
    assert used_levels((16, 16)) == [1]


@pytest.mark.parametrize(("stride", "target"), [(8, 4), (32, 8), (14, 8), (14, 4), (2, 8), (4, 8), (8, 8), (14, 16)])
def test_rescaling_keeps_cells_in_place(stride, target):
    """Inside, a ramp of pixels stays that ramp, whatever the sizes: nothing is squeezed."""
    pixels = 99, 143
    x = ramp(*(-(-n // stride) for n in pixels), stride)
    size = [-(-n // target) for n in pixels]
    found, expected = rescale(x, stride, target, size), ramp(*size, target)
    assert found.shape == expected.shape
    border = -(-max(stride, target) // target)
    inside = slice(border, -border - 1)
    torch.testing.assert_close(found[..., inside, inside], expected[..., inside, inside])


def test_rescaling_by_whole_factors_is_plain_interpolation():
    x = torch.randn(2, 3, 4, 5)
    torch.testing.assert_close(rescale(x, 8, 4, (8, 10)), F.interpolate(x, size=(8, 10), mode="bilinear"))
    torch.testing.assert_close(rescale(x, 4, 8, (2, 2)), F.avg_pool2d(x, 2))
    assert rescale(x[..., :1, :1], 14, 8, (2, 2)).shape == (2, 3, 2, 2)
