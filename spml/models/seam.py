"""SEAM's parts (Wang et al., CVPR 2020): the pixel correlation module, and what two views of an image must agree in.

Tensors in, tensors out. A map is (B, C, h, w) float, C = K - 1 classes without the background; a tag is (B, C) bool,
true where the image shows the class. Maps of classes that it does not show count as zero everywhere.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spml.models.layers import convolution, initialise, resize

IMAGE_WIDTH, SHRINK = 3, 8  # of ResNet's 512 and 1024 channels an eighth is the published 64 and 128
HARD_SHARE, MIN_SHARE = 0.2, 0.25
ROWS = 4096  # pixels whose affinities are held at once: all in training, parts of a large test image
TINY = 1e-5


class PixelCorrelation(nn.Module):
    """Every pixel's map becomes the mean over pixels that look alike (SEAM, section 3.4).

    Features are the image's colours beside a 1x1 convolution with ReLU of a middle and of a late stage, mixed by a
    1x1 convolution; widths 3 + 64 + 128 -> 192 for ResNet-101 and -50. What comes in is detached: the module learns,
    the backbone and the maps learn nothing from it.
    """

    def __init__(self, middle_channels: int, late_channels: int) -> None:
        super().__init__()
        middle, late = middle_channels // SHRINK, late_channels // SHRINK
        self.middle = convolution(middle_channels, middle, kernel=1)
        self.late = convolution(late_channels, late, kernel=1)
        self.mix = convolution(IMAGE_WIDTH + middle + late, middle + late, kernel=1)
        initialise(self)

    def forward(self, maps: Tensor, image: Tensor, middle: Tensor, late: Tensor) -> Tensor:
        """Refine maps (B, C, h, w) of any sign: as `maximum_only(max_normalise(maps))`, each pixel then averaged.

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

    SEAM's code subtracts each map's minimum as well; the paper does not, nor does this.
    """
    positive = F.relu(maps)
    return positive / positive.amax((2, 3), keepdim=True).clamp(min=TINY)


def maximum_only(maps: Tensor) -> Tensor:
    """Zero all classes of a pixel but those with its largest value, which stay as they are (ties all stay)."""
    return maps * (maps == maps.amax(1, keepdim=True))


def with_background(maps: Tensor) -> Tensor:
    """(B, C, h, w) in [0, 1] -> (B, 1 + C, h, w): 1 - max in front."""
    return torch.cat([1 - maps.amax(1, keepdim=True), maps], dim=1)


def classification_loss(logit: Tensor, tag: Tensor) -> Tensor:
    """Multi-label soft margin: mean over images and classes of -[t log s(x) + (1 - t) log(1 - s(x))], s the sigmoid.

    Args:
        logit, tag: (B, C) float, bool.
    """
    return F.multilabel_soft_margin_loss(logit, tag.to(logit.dtype))


def equivariance_loss(first: Tensor, second: Tensor, tag: Tensor) -> Tensor:
    """ER: mean over images, classes and pixels of |n(first) - n(second)|, n = `shown` at the small view's size.

    Zero where the map of the small view is the shrunken map of the large one (SEAM, equation 4). Normalised after the
    shrinking: SEAM's code does it before, so that an equivariant map has a loss where a thin maximum is averaged away.

    Args:
        first: (B, C, h, w) maps of the large view, raw.
        second: (B, C, h', w') of the small view.
        tag: (B, C) bool.
    """
    size = second.shape[-2:]
    return (shown(first, tag, size) - shown(second, tag, size)).abs().mean()


def cross_refinement_loss(first: Tensor, second: Tensor, refined: tuple[Tensor, Tensor], tag: Tensor) -> Tensor:
    """ECR: the refined map of each view against the raw one of the other, hardest 20 % alone (equation 6).

    Per image the mean of the largest fifth of |m(other) - n(refined)| over pixels and classes, background (1 - max)
    included; m = `maximum_only` of the normalised map, detached. Both directions are summed, images averaged.

    Args:
        first, second: (B, C, h, w), (B, C, h', w') raw maps of the large and the small view; no gradient.
        refined: of the large and the small view, sizes as theirs; gradients go here.
        tag: (B, C) bool.
    """
    size = second.shape[-2:]
    loss = first.new_zeros(())
    for other, ours in ((second, refined[0]), (first, refined[1])):
        # Keeping the maximum alone leaves the background, 1 - max, as it is.
        target = with_background(maximum_only(shown(other.detach(), tag, size)))
        difference = (target - with_background(shown(ours, tag, size))).abs().flatten(1)  # (B, K h' w')
        hardest = max(1, int(HARD_SHARE * difference.shape[1]))
        loss = loss + difference.topk(hardest, dim=1).values.mean()
    return loss


def min_pool_loss(refined: Tensor, tag: Tensor) -> Tensor:
    """Mean, per image, of the lowest quarter of max_c refined over pixels: somewhere there is background.

    Args:
        refined: (B, C, h, w), of which negative values count as zero.
        tag: (B, C) bool.
    """
    strongest = F.relu(refined * tag[:, :, None, None]).amax(1).flatten(1)  # (B, N)
    lowest = max(1, int(MIN_SHARE * strongest.shape[1]))
    return strongest.topk(lowest, dim=1, largest=False).values.mean()


def shown(maps: Tensor, tag: Tensor, size: Sequence[int]) -> Tensor:
    """Maps shrunk to (h, w) and normalised, for the classes that an image shows; zero for the others.

    A cell of the coarser grid is the mean of the cells that it covers: what shrinking the image should make of a map.
    """
    maps = F.interpolate(maps, (int(size[0]), int(size[1])), mode="area")
    return max_normalise(maps) * tag[:, :, None, None]
