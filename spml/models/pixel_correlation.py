"""SEAM's pixel correlation module (Wang et al., CVPR 2020, section 3.4), and how it normalises maps."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spml.models.layers import convolution, initialise, resize

IMAGE_WIDTH, SHRINK = 3, 8  # of ResNet's 512 and 1024 channels an eighth is the published 64 and 128
ROWS = 4096  # pixels whose affinities are held at once: all in training, parts of a large test image
TINY = 1e-5


class PixelCorrelation(nn.Module):
    """Replaces a map at every pixel by its mean over similar pixels (SEAM, section 3.4).

    The features concatenate the image's colours with a 1x1 convolution and ReLU of a middle and a late stage; another
    1x1 convolution mixes them. The widths are 3 + 64 + 128 -> 192 for ResNet-101 and -50. The inputs are detached: the
    module learns, and the backbone and the maps get no gradient from it.
    """

    def __init__(self, middle_channels: int, late_channels: int) -> None:
        super().__init__()
        middle, late = middle_channels // SHRINK, late_channels // SHRINK
        self.middle = convolution(middle_channels, middle, kernel=1)
        self.late = convolution(late_channels, late, kernel=1)
        self.mix = convolution(IMAGE_WIDTH + middle + late, middle + late, kernel=1)
        initialise(self)

    def forward(self, maps: Tensor, image: Tensor, middle: Tensor, late: Tensor) -> Tensor:
        """Refine maps (B, C, h, w) of any sign: average `maximum_only(max_normalise(maps))` over similar pixels.

        Args:
            image: (B, 3, H, W) normalised.
            middle, late: (B, C', h', w') features of two stages.

        Returns:
            (B, C, h, w) float32 in [0, 1]; its sum over classes is at most 1, the rest is background.
        """
        size = maps.shape[-2:]
        colours = F.interpolate(image.float(), size, mode="area")  # the mean of each cell
        parts = [colours] + [
            resize(F.relu(layer(stage.detach())).float(), size)
            for layer, stage in ((self.middle, middle), (self.late, late))
        ]
        feature = self.mix(torch.cat(parts, dim=1))  # (B, 192, h, w)
        with torch.autocast(maps.device.type, enabled=False):
            return correlate(feature.float(), maximum_only(max_normalise(maps.detach().float())))


def correlate(feature: Tensor, maps: Tensor) -> Tensor:
    """Mean of maps by affinity: out_i = sum_j a_ij map_j / sum_j a_ij, a_ij = max(0, cos(f_i, f_j)).

    Rows of the weights a_ij / sum_j a_ij sum to one. A pixel whose feature is zero keeps its own value.

    Args:
        feature: (B, F, h, w) float.
        maps: (B, C, h, w) of the same type.

    Returns:
        (B, C, h, w).
    """
    unit = F.normalize(feature.flatten(2), dim=1, eps=TINY)  # (B, F, N)
    values = maps.flatten(2)  # (B, C, N)
    parts = []
    for query, own in zip(unit.split(ROWS, dim=2), values.split(ROWS, dim=2), strict=True):
        affinity = F.relu(query.transpose(1, 2) @ unit)  # (B, n, N)
        total = affinity.sum(2)[:, None]  # (B, 1, n)
        mean = values @ affinity.transpose(1, 2) / total.clamp(min=TINY)
        parts.append(torch.where(total > TINY, mean, own))
    return torch.cat(parts, dim=2).view_as(maps)


def max_normalise(maps: Tensor) -> Tensor:
    """max(0, x) over its maximum in the image: each (image, class) in [0, 1], all zero where nothing is positive.

    SEAM's code also subtracts each map's minimum; the paper and this function do not.
    """
    positive = F.relu(maps)
    return positive / positive.amax((2, 3), keepdim=True).clamp(min=TINY)


def maximum_only(maps: Tensor) -> Tensor:
    """Keep the largest value of each pixel over the classes (all of them in a tie), and set the others to zero."""
    return maps * (maps == maps.amax(1, keepdim=True))
