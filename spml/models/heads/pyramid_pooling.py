"""Pyramid pooling (PSPNet): concatenates the features with means over ever smaller cells; a released head."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from spml.models.backbones.base import Encoder
from spml.models.heads.base import Head, stride_of_last
from spml.models.layers import convolution, initialise, leaves, normalised, resize

PYRAMID_WIDTH = 512  # of every released snapshot, whatever network.pspp_feature_dim says


class CellMeans(nn.AdaptiveAvgPool2d):
    """Means over k x k cells; where the network leaves as a graph, by products that know no size."""

    def __init__(self, cells: int) -> None:
        super().__init__(cells)
        self.cells = cells

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C, k, k)."""
        if not leaves():
            return super().forward(x)
        rows, columns = (_shares(x.shape[axis], self.cells, x) for axis in (2, 3))
        return rows @ x @ columns.transpose(0, 1)


def _shares(length: int, cells: int, like: Tensor) -> Tensor:
    """(cells, length): the share of each place in each cell; cell i spans floor(i n / k) to ceil((i + 1) n / k)."""
    place, cell = torch.arange(length, device=like.device)[None], torch.arange(cells, device=like.device)[:, None]
    inside = (place >= cell * length // cells) & (place < ((cell + 1) * length + cells - 1) // cells)
    share = inside.to(like.dtype)
    return share / share.sum(1, keepdim=True)


class PyramidPooling(nn.Module):
    """Concatenates the input with means over 1, 2 x 2, 3 x 3 and 6 x 6 cells of `width` channels; 3x3 to `width`.

    In training mode the 1 x 1 cell's batch norm needs at least two images a batch.
    """

    def __init__(self, in_channels: int, width: int, cells: Sequence[int] = (1, 2, 3, 6)) -> None:
        super().__init__()
        self.branch_names = [f"pspp_{number}" for number in range(1, len(cells) + 1)]
        for name, cell in zip(self.branch_names, cells, strict=True):
            self.add_module(name, nn.Sequential(CellMeans(cell), *normalised(in_channels, width, kernel=1)))
        self.conv = normalised(in_channels + width * len(cells), width)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, width, h, w)."""
        pooled = [resize(self.get_submodule(name)(x), x.shape[-2:]) for name in self.branch_names]
        return self.conv(torch.cat([x, *pooled], dim=1))


class PyramidPoolingHead(nn.Sequential):
    """Pyramid pooling of the deepest map and the 1x1 convolution to the embedding; keys `0.*` and `1.*`."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        projection = convolution(PYRAMID_WIDTH, out_channels, kernel=1, bias=True)
        initialise(projection)
        super().__init__(PyramidPooling(in_channels, PYRAMID_WIDTH), projection)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """List of (B, C, h, w) -> (B, D, h, w), of the size of the deepest."""
        return super().forward(maps[-1])


def build(encoder: Encoder, dim: int, width: int) -> PyramidPoolingHead:
    """The head of `panoptic_pspnet_101`."""
    return PyramidPoolingHead(encoder.channels[-1], dim)


PSP = Head("PSPNet: means over 1, 4, 9 and 36 parts of the image beside the map", build, stride_of_last, key="pspp")
