"""Heads that look at several scales: dilated convolutions (DeepLab) and pyramid pooling (PSPNet)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spml.models.backbones.resnet import convolution, initialise

PYRAMID_WIDTH = 512  # of every released snapshot, whatever network.pspp_feature_dim says


def resize(x: Tensor, size: Sequence[int]) -> Tensor:
    """Bilinear (B, C, h, w) -> (B, C, *size), corners not aligned; a map of that size comes back as it is."""
    if tuple(x.shape[-2:]) == (int(size[0]), int(size[1])):
        return x
    return F.interpolate(x, size=(int(size[0]), int(size[1])), mode="bilinear", align_corners=False)


class AtrousPyramid(nn.Module):
    """Parallel 3x3 convolutions of growing dilation, summed; keys `aspp_1`, `aspp_2`, ...

    With `context`, a 1x1 convolution of the image's mean feature is added everywhere (key `context`): trained from
    scratch, the dilated convolutions alone learn slowly what the whole picture shows. The release has no such path.
    """

    def __init__(self, in_channels: int, out_channels: int, dilations: Sequence[int], context: bool = False) -> None:
        super().__init__()
        self.branch_names = [f"aspp_{number}" for number in range(1, len(dilations) + 1)]
        for name, dilation in zip(self.branch_names, dilations, strict=True):
            branch = nn.Sequential(convolution(in_channels, out_channels, dilation=dilation, bias=True))
            self.add_module(name, branch)
        # The bias of the branches serves the context too; without batch norm a batch of one image trains as well.
        self.context = convolution(in_channels, out_channels, kernel=1) if context else None
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """Sum the branches: (B, C, h, w) -> (B, D, h, w)."""
        out = self.get_submodule(self.branch_names[0])(x)
        for name in self.branch_names[1:]:
            out = out + self.get_submodule(name)(x)
        if self.context is not None:
            out = out + self.context(x.mean((2, 3), keepdim=True))
        return out  # (B, out_channels, h, w)


class PyramidPooling(nn.Module):
    """Means over 1, 2 x 2, 3 x 3 and 6 x 6 cells, each to `width` channels, beside the input, then 3x3 to `width`.

    In training mode the 1 x 1 cell's batch norm needs at least two images a batch.
    """

    def __init__(self, in_channels: int, width: int, cells: Sequence[int] = (1, 2, 3, 6)) -> None:
        super().__init__()
        self.branch_names = [f"pspp_{number}" for number in range(1, len(cells) + 1)]
        for name, cell in zip(self.branch_names, cells, strict=True):
            branch = nn.Sequential(
                nn.AdaptiveAvgPool2d(cell),
                convolution(in_channels, width, kernel=1),
                nn.BatchNorm2d(width),
                nn.ReLU(inplace=True),
            )
            self.add_module(name, branch)
        self.conv = nn.Sequential(
            convolution(in_channels + width * len(cells), width),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
        )
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        pooled = [resize(self.get_submodule(name)(x), x.shape[-2:]) for name in self.branch_names]
        return self.conv(torch.cat([x, *pooled], dim=1))  # (B, width, h, w)


def pyramid_pooling_head(in_channels: int, out_channels: int) -> nn.Sequential:
    """Pyramid pooling and the 1x1 convolution to the embedding; keys `0.*` and `1.*`."""
    projection = convolution(PYRAMID_WIDTH, out_channels, kernel=1, bias=True)
    initialise(projection)
    return nn.Sequential(PyramidPooling(in_channels, PYRAMID_WIDTH), projection)
