"""Fully convolutional network (Long et al., 2015): scores of several levels, added up after learned upsampling."""

from collections.abc import Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spml.models.backbones.base import Encoder
from spml.models.heads.base import Head, level_of_stride
from spml.models.layers import convolution, initialise

STRIDE = 4  # of the embedding; the published network goes on to 1


class LearnedUpsampling(nn.ConvTranspose2d):
    """A transposed convolution, one filter a channel, that starts as bilinear interpolation (corners not aligned).

    It first repeats the border of the map, so that it starts as bilinear interpolation at the border, too.
    """

    def __init__(self, channels: int, factor: int) -> None:
        kernel = 2 * factor - factor % 2
        super().__init__(channels, channels, kernel, factor, padding=factor // 2, groups=channels, bias=False)
        self.factor = factor
        weight = 1 - (torch.arange(kernel) - (kernel - 1) / 2).abs() / factor
        with torch.no_grad():
            self.weight.copy_(weight[:, None] * weight[None, :])

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """(B, C, h, w) -> (B, C, factor * h, factor * w)."""
        cut = self.factor
        return super().forward(F.pad(x, (1, 1, 1, 1), mode="replicate"))[..., cut:-cut, cut:-cut]


class SkipScores(nn.Module):
    """1x1 convolutions of some levels. From the deepest on, it enlarges each sum and adds it to the next level."""

    def __init__(self, levels: Sequence[int], channels: Sequence[int], strides: Sequence[int], dim: int) -> None:
        """`levels`, `channels`, `strides`: of the maps that count, deepest first."""
        super().__init__()
        self.levels = tuple(levels)
        self.score = nn.ModuleList(convolution(width, dim, kernel=1, bias=True) for width in channels)
        initialise(self)
        factors = [before // after for before, after in zip(strides, [*strides[1:], STRIDE], strict=True)]
        self.enlarge = nn.ModuleList(LearnedUpsampling(dim, factor) for factor in factors)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """List of (B, C, h, w) -> (B, D, h, w) at stride 4."""
        total = self.enlarge[0](self.score[0](maps[self.levels[0]]))
        for level, score, enlarge in zip(self.levels[1:], self.score[1:], self.enlarge[1:], strict=True):
            skip = score(maps[level])
            total = enlarge(total[..., : skip.shape[-2], : skip.shape[-1]] + skip)
        return total


def build(encoder: Encoder, dim: int, width: int, name: str, strides: Sequence[int]) -> SkipScores:
    """The head that adds up the maps of these strides, coarsest first."""
    levels = [level_of_stride(encoder, stride, name) for stride in strides]
    return SkipScores(levels, [encoder.channels[level] for level in levels], strides, dim)


def entry(name: str, strides: Sequence[int]) -> Head:
    """The entry of a FCN-<s>s."""
    told = " and ".join(map(str, strides))
    builder = partial(build, name=name, strides=strides)
    return Head(f"FCN-{strides[-1]}s: scores at stride {told}, learned upsampling", builder, lambda _: STRIDE)


FCN32 = entry("fcn32", (32,))
FCN16 = entry("fcn16", (32, 16))
FCN8 = entry("fcn8", (32, 16, 8))
