"""Decoders by closed forms: ramps stay ramps, maxima go back, sums are sums; and rescaling keeps cells in place."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from spml.errors import UserError
from spml.models import BACKBONES, HEADS
from spml.models.backbones.base import Encoder, Options
from spml.models.backbones.segnet import PooledMaps, PoolingEncoder
from spml.models.heads.aspp import AtrousPyramid
from spml.models.heads.deeplab_v3plus import ImagePooledPyramid
from spml.models.heads.fcn import LearnedUpsampling, SkipScores
from spml.models.heads.pyramid_pooling import PyramidPooling
from spml.models.heads.segnet import unpool
from spml.models.heads.unet import ConcatenatingDecoder, used_levels
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


def refuses(name, strides):
    """What docs/methods/decoders.md says of the maps that a head needs."""
    wanted = {"fcn32": {32}, "fcn16": {32, 16}, "fcn8": {32, 16, 8}, "deeplab_v3plus": {4}}.get(name, set())
    return not wanted <= {*strides} or (name == "unet" and len({s for s in strides if s >= 4}) < 2) or name == "segnet"


@torch.no_grad()
@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize(
    "strides", sorted({*(entry.strides for entry in BACKBONES.values()), (16, 16), (8,), (4, 8, 16, 32), (14, 14)})
)
def test_every_head_on_every_backbones_strides(name, strides):
    """It builds where the maps allow it, with an embedding of its stride, and else says what it lacks."""
    encoder = Encoder([3 + i for i in range(len(strides))], strides)
    if refuses(name, strides):
        with pytest.raises(UserError, match=f"network.head: {name} .*network.backbone_types|network.head: unet needs"):
            HEADS[name].build(encoder, 5, 6)
        return
    maps = [torch.randn(2, width, 224 // s, 224 // s) for width, s in zip(encoder.channels, strides, strict=True)]
    stride = HEADS[name].stride(strides)
    found = HEADS[name].build(encoder, 5, 6).eval()(maps)
    assert found.shape == (2, 5, 224 // stride, 224 // stride) and found.isfinite().all()


def in_channels_alone(module, value=1.0):
    """Make each convolution the sum of its input's channels times `value`, and batch norms neutral."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.zeros_(layer.weight)
            centre = layer.kernel_size[0] // 2
            with torch.no_grad():
                layer.weight[:, :, centre, centre] = value
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.BatchNorm2d):
            layer.eps = 0.0
    return module.eval()


@torch.no_grad()
def test_pyramid_pooling_equals_loops():
    """Beside the map its means over c x c parts, c = 1, 2, 3, 6; each then has the size of the map."""
    head, x = in_channels_alone(PyramidPooling(1, 1)), torch.rand(1, 1, 6, 12)
    head.conv = nn.Identity()
    found = head(x)
    assert found.shape == (1, 5, 6, 12) and torch.equal(found[:, :1], x)
    for channel, parts in enumerate((1, 2, 3, 6), start=1):
        height, width = 6 // parts, 12 // parts
        means = torch.tensor(
            [
                [
                    float(x[0, 0, i * height : (i + 1) * height, j * width : (j + 1) * width].mean())
                    for j in range(parts)
                ]
                for i in range(parts)
            ]
        )
        expected = F.interpolate(means[None, None], (6, 12), mode="bilinear")
        torch.testing.assert_close(found[:, channel : channel + 1], expected)


@torch.no_grad()
def test_released_pyramid_equals_loops():
    """The sum over branches of 3x3 windows whose pixels are a dilation apart, zero outside."""
    pyramid, x = AtrousPyramid(1, 1, (1, 2)), torch.rand(1, 1, 5, 6)
    weights = [pyramid.aspp_1[0].weight[0, 0], pyramid.aspp_2[0].weight[0, 0]]
    found = pyramid([x])
    for y in range(5):
        for u in range(6):
            total = 0.0
            for dilation, weight in zip((1, 2), weights, strict=True):
                for a in range(3):
                    for b in range(3):
                        row, column = y + (a - 1) * dilation, u + (b - 1) * dilation
                        if 0 <= row < 5 and 0 <= column < 6:
                            total += float(weight[a, b] * x[0, 0, row, column])
            assert float(found[0, 0, y, u]) == pytest.approx(total, abs=1e-6)


@torch.no_grad()
@pytest.mark.parametrize(("stride", "dilations"), [(8, (12, 24, 36)), (16, (6, 12, 18)), (32, (3, 6, 9))])
def test_image_pooled_pyramid(stride, dilations):
    """Published dilations at stride 16, the same reach in pixels at others; the fifth branch is the mean everywhere.

    With convolutions that pass their centre, the four local branches return x, and the mixture sums: 4 x + mean.
    """
    pyramid, x = in_channels_alone(ImagePooledPyramid(1, 1, stride)), torch.rand(2, 1, 4, 5)
    assert tuple(branch[0].dilation[0] for branch in pyramid.branches) == (1, *dilations)
    torch.testing.assert_close(pyramid(x), 4 * x + x.mean((2, 3), keepdim=True))


@torch.no_grad()
def test_a_unet_joins_each_finer_map():
    """Constant maps of strides 4, 8 and 16 with values 1, 2 and 3: up from 3, each block sums what it joins twice over.

    The first block of width 1 has 3 + 2 = 5, the second 5 + 1 = 6.
    """
    head = in_channels_alone(ConcatenatingDecoder((1, 1, 1), (4, 8, 16), 1, 1))
    maps = [torch.full((1, 1, 12, 16), 1.0), torch.full((1, 1, 6, 8), 2.0), torch.full((1, 1, 3, 4), 3.0)]
    torch.testing.assert_close(head(maps), torch.full((1, 1, 12, 16), 6.0))


@torch.no_grad()
def test_segnet_puts_back_by_the_indices_that_it_is_given():
    """One value of a 2x2 pool goes to the corner that its index names; the other places are zero."""
    head = HEADS["segnet"].build(PoolingEncoder(Options()), 1, 0)
    in_channels_alone(head)
    head.blocks = nn.ModuleList([nn.Identity() for _ in head.blocks])
    head.embed = nn.Identity()
    sizes, indices = [(8, 8), (4, 4), (2, 2), (1, 1)], [None] * 4
    maps = [torch.zeros(1, 1, *size) for size in sizes]
    maps[3][:] = 7.0
    indices[3] = torch.tensor([[[[2]]]])  # bottom left of 2 x 2
    indices[2] = torch.tensor([[[[0, 3], [9, 10]]]])  # where each of 2 x 2 came from, in 4 x 4
    found = head(PooledMaps(maps, indices))
    expected = torch.zeros(1, 1, 4, 4)
    expected[0, 0, 2, 1] = 7.0  # flat index 9
    torch.testing.assert_close(found, expected)
