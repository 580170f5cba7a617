"""SEAM's losses: classification, and the agreement of two views of an image (Wang et al., CVPR 2020).

Each takes tensors and returns a scalar. A map is (B, C, h, w) float, C = K - 1 classes without the background; a tag is
(B, C) bool, true where the image has the class. The map of a class that the image does not have counts as zero.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from spml.models.pixel_correlation import max_normalise, maximum_only

HARD_SHARE, MIN_SHARE = 0.2, 0.25


def with_background(maps: Tensor) -> Tensor:
    """(B, C, h, w) in [0, 1] -> (B, 1 + C, h, w): adds the background, 1 - max, in front."""
    return torch.cat([1 - maps.amax(1, keepdim=True), maps], dim=1)


def classification_loss(logit: Tensor, tag: Tensor) -> Tensor:
    """Multi-label soft margin: mean over images and classes of -[t log s(x) + (1 - t) log(1 - s(x))], s the sigmoid.

    Args:
        logit, tag: (B, C) float, bool.
    """
    return F.multilabel_soft_margin_loss(logit, tag.to(logit.dtype))


def equivariance_loss(first: Tensor, second: Tensor, tag: Tensor) -> Tensor:
    """ER: mean over images, classes and pixels of |n(first) - n(second)|, n = `of_tags` at the small view's size.

    It is zero where the map of the small view equals the shrunken map of the large one (SEAM, equation 4). We normalise
    after shrinking. SEAM's code does it before, which gives an equivariant map a loss where shrinking lowers a thin
    maximum.

    Args:
        first: (B, C, h, w) maps of the large view, raw.
        second: (B, C, h', w') of the small view.
        tag: (B, C) bool.
    """
    size = second.shape[-2:]
    return (of_tags(first, tag, size) - of_tags(second, tag, size)).abs().mean()


def cross_refinement_loss(first: Tensor, second: Tensor, refined: tuple[Tensor, Tensor], tag: Tensor) -> Tensor:
    """ECR: compares the refined map of each view with the raw map of the other, on the hardest 20 % (equation 6).

    For each image it takes the mean of the largest fifth of |m(other) - n(refined)| over pixels and classes, with the
    background (1 - max); m = `maximum_only` of the normalised map, detached. It sums both directions and averages the
    images.

    Args:
        first, second: (B, C, h, w), (B, C, h', w') raw maps of the large and the small view; no gradient.
        refined: of the large and the small view, sizes as theirs; gradients go here.
        tag: (B, C) bool.
    """
    size = second.shape[-2:]
    loss = first.new_zeros(())
    for other, ours in ((second, refined[0]), (first, refined[1])):
        # Keeping the maximum alone leaves the background, 1 - max, as it is.
        target = with_background(maximum_only(of_tags(other.detach(), tag, size)))
        difference = (target - with_background(of_tags(ours, tag, size))).abs().flatten(1)  # (B, K h' w')
        hardest = max(1, int(HARD_SHARE * difference.shape[1]))
        loss = loss + difference.topk(hardest, dim=1).values.mean()
    return loss


def min_pool_loss(refined: Tensor, tag: Tensor) -> Tensor:
    """Mean, per image, of the lowest quarter of max_c refined over pixels: every image has some background.

    Args:
        refined: (B, C, h, w); negative values count as zero.
        tag: (B, C) bool.
    """
    strongest = F.relu(refined * tag[:, :, None, None]).amax(1).flatten(1)  # (B, N)
    lowest = max(1, int(MIN_SHARE * strongest.shape[1]))
    return strongest.topk(lowest, dim=1, largest=False).values.mean()


def of_tags(maps: Tensor, tag: Tensor, size: Sequence[int]) -> Tensor:
    """Maps shrunk to (h, w) and normalised, for the classes that an image has; zero for the others.

    A cell of the coarser grid is the mean of the cells that it covers, as if the image itself had been shrunk.
    """
    maps = F.interpolate(maps, (int(size[0]), int(size[1])), mode="area")
    return max_normalise(maps) * tag[:, :, None, None]
