"""U-Net's decoder (Ronneberger et al., 2015): from the deepest map upwards, each finer map concatenated and mixed."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from spml.errors import UserError
from spml.models.backbones.base import Encoder
from spml.models.heads.base import Head
from spml.models.layers import convolution, initialise, normalised, rescale

FINEST = 4  # finer maps are left out: the embedding has stride 4


def used_levels(strides: Sequence[int]) -> list[int]:
    """The deepest map of every stride from 4 on, deepest first."""
    deepest = {stride: level for level, stride in enumerate(strides) if stride >= FINEST}
    return sorted(deepest.values(), reverse=True)


def stride_of_finest(strides: Sequence[int]) -> int:
    """The stride of the finest map that the decoder uses."""
    return min(stride for stride in strides if stride >= FINEST)


class ConcatenatingDecoder(nn.Module):
    """Bilinear enlarging, concatenation with the finer map, two 3x3 convolutions, for each finer map; then 1x1."""

    def __init__(self, channels: Sequence[int], strides: Sequence[int], dim: int, width: int) -> None:
        super().__init__()
        self.levels, self.strides = used_levels(strides), tuple(strides)
        first = channels[self.levels[0]]
        widths = [first] + [width] * (len(self.levels) - 2)
        self.blocks = nn.ModuleList(
            nn.Sequential(normalised(before + channels[level], width), normalised(width, width))
            for before, level in zip(widths, self.levels[1:], strict=True)
        )
        self.embed = convolution(width, dim, kernel=1, bias=True)
        initialise(self)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """List of (B, C, h, w) -> (B, D, h, w) at the finest stride used."""
        x, stride = maps[self.levels[0]], self.strides[self.levels[0]]
        for level, block in zip(self.levels[1:], self.blocks, strict=True):
            skip = maps[level]
            x = block(torch.cat([rescale(x, stride, self.strides[level], skip.shape[-2:]), skip], dim=1))
            stride = self.strides[level]
        return self.embed(x)


def build(encoder: Encoder, dim: int, width: int) -> ConcatenatingDecoder:
    """The decoder for an encoder whose maps have at least two strides."""
    if len(used_levels(encoder.strides)) < 2:
        own = ", ".join(map(str, encoder.strides))
        raise UserError(f"network.head: unet needs maps of two strides from {FINEST} on; the backbone's have {own}")
    return ConcatenatingDecoder(encoder.channels, encoder.strides, dim, width)


UNET = Head("U-Net: each finer map concatenated on the way up", build, stride_of_finest)
