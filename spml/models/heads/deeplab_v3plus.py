"""DeepLab v3+ (Chen et al., 2018): atrous pyramid with image pooling, then a decoder with one low-level skip."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spml.models.backbones.base import Encoder
from spml.models.heads.base import Head, level_of_stride
from spml.models.layers import convolution, initialise, normalised, rescale

STRIDE = 4  # of the low-level map and of the embedding
LOW_WIDTH = 48
DILATIONS = (6, 12, 18)  # at stride 16; doubled at 8, halved at 32


class ImagePooledPyramid(nn.Module):
    """1x1, three dilated 3x3 and the image's mean, each `width` wide, concatenated and mixed by 1x1.

    The image's mean has no batch norm, unlike the published one: with one image a batch there is nothing to normalise.
    """

    def __init__(self, in_channels: int, width: int, stride: int) -> None:
        super().__init__()
        dilations = [max(1, dilation * 16 // stride) for dilation in DILATIONS]
        self.branches = nn.ModuleList(
            [normalised(in_channels, width, kernel=1)]
            + [normalised(in_channels, width, dilation=dilation) for dilation in dilations]
        )
        self.pooled = convolution(in_channels, width, kernel=1, bias=True)
        self.mix = normalised(width * (len(DILATIONS) + 2), width, kernel=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, width, h, w)."""
        pooled = F.relu(self.pooled(x.mean((2, 3), keepdim=True))).expand(-1, -1, *x.shape[-2:])
        return self.mix(torch.cat([*(branch(x) for branch in self.branches), pooled], dim=1))


class LowLevelDecoder(nn.Module):
    """Concatenates the pyramid, enlarged to stride 4, with 48 low-level channels; then two 3x3 convolutions and 1x1."""

    def __init__(self, encoder: Encoder, dim: int, width: int, low: int) -> None:
        super().__init__()
        self.low, self.stride = low, encoder.strides[-1]
        self.pyramid = ImagePooledPyramid(encoder.channels[-1], width, self.stride)
        self.skip = normalised(encoder.channels[low], LOW_WIDTH, kernel=1)
        self.refine = nn.Sequential(normalised(width + LOW_WIDTH, width), normalised(width, width))
        self.embed = convolution(width, dim, kernel=1, bias=True)
        initialise(self)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """List of (B, C, h, w) -> (B, D, h, w) at stride 4."""
        skip = self.skip(maps[self.low])
        deep = rescale(self.pyramid(maps[-1]), self.stride, STRIDE, skip.shape[-2:])
        return self.embed(self.refine(torch.cat([deep, skip], dim=1)))


def build(encoder: Encoder, dim: int, width: int) -> LowLevelDecoder:
    """The decoder for an encoder that has a map of stride 4; published with a width of 256."""
    return LowLevelDecoder(encoder, dim, width, level_of_stride(encoder, STRIDE, "deeplab_v3plus"))


DEEPLAB_V3PLUS = Head("DeepLab v3+: atrous pyramid with image pooling, low-level skip", build, lambda _: STRIDE)
