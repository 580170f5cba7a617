"""Building blocks of backbones, heads and classifiers: convolutions, their initial weights, and resizing."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def convolution(
    in_channels: int, out_channels: int, kernel: int = 3, stride: int = 1, dilation: int = 1, bias: bool = False
) -> nn.Conv2d:
    """An odd-sized convolution padded so that stride 1 keeps the size."""
    padding = dilation * (kernel // 2)
    return nn.Conv2d(in_channels, out_channels, kernel, stride, padding, dilation, bias=bias)


def normalised(in_channels: int, out_channels: int, kernel: int = 3, dilation: int = 1) -> nn.Sequential:
    """A convolution without bias, batch norm, ReLU."""
    return nn.Sequential(
        convolution(in_channels, out_channels, kernel, dilation=dilation),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


def initialise(module: nn.Module) -> None:
    """Fill every convolution with normal(0, sqrt(2 / (k * k * out))) and zero bias, every batch norm with 1 and 0."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            fan_out = layer.kernel_size[0] * layer.kernel_size[1] * layer.out_channels
            nn.init.normal_(layer.weight, 0.0, (2.0 / fan_out) ** 0.5)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.BatchNorm2d):
            nn.init.ones_(layer.weight)
            nn.init.zeros_(layer.bias)


def leaves() -> bool:
    """Whether the network is being written as a graph for images of any size, which may not choose by the size."""
    return torch.jit.is_tracing()


def resize(x: Tensor, size: Sequence[int]) -> Tensor:
    """Bilinear (B, C, h, w) -> (B, C, *size), corners not aligned; returns a map of that size unchanged."""
    if leaves():
        return F.interpolate(x, size=(size[0], size[1]), mode="bilinear", align_corners=False)
    if tuple(x.shape[-2:]) == (int(size[0]), int(size[1])):
        return x
    return F.interpolate(x, size=(int(size[0]), int(size[1])), mode="bilinear", align_corners=False)


def rescale(x: Tensor, stride: int, target: int, size: Sequence[int]) -> Tensor:
    """Change the stride of a map so that every cell stays over its pixels.

    `resize` fits the whole map into a size, so it moves all cells if the last ones reach over the image's border. Here
    every cell keeps its place: cells beyond the border are cut, and missing ones repeat the last cell.

    Args:
        x: (B, C, h, w), whose cells cover stride x stride pixels.
        stride, target: width of a cell in pixels, before and after. Towards a coarser map it averages, towards a finer
            one it interpolates bilinearly.
        size: (height, width) of the result.

    Returns:
        (B, C, *size).
    """
    height, width = (size[0], size[1]) if leaves() else (int(size[0]), int(size[1]))
    if leaves():  # never fewer than needed, as cells beyond the border change nothing before it
        below = right = max(1, 8 // stride)
    else:
        below, right = (max(0, -(-n * target // stride) - x.shape[axis]) for n, axis in ((height, -2), (width, -1)))
    if below or right:
        x = F.pad(x, (0, right, 0, below), mode="replicate")
    if target > stride and target % stride == 0:
        x = F.avg_pool2d(x, target // stride)
    elif target != stride:
        x = F.interpolate(x, scale_factor=stride / target, mode="bilinear", align_corners=False)
    return x[..., :height, :width]
