"""The inputs of the regularisers: probabilities, colours and valid pixels, all at one size."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from spml.losses.base import Inputs

Size = tuple[int, int]


@dataclass(frozen=True)
class Maps:
    """A batch at one size; make it by `of`."""

    probability: Tensor  # (B, K, h, w) float32, sums to one over K
    rgb: Tensor  # (B, 3, h, w) float32 in 0..255; 0 where not valid
    valid: Tensor  # (B, h, w) bool

    @classmethod
    def of(cls, inputs: Inputs, size: Size) -> "Maps":
        """The logits, colours and valid pixels of a step at `size`, which is at most that of the crop.

        A cell of the smaller map is valid where at least half of its pixels are valid. Its colour is the mean of these;
        padding and void do not change it.
        """
        rgb, valid = shrink_colours(inputs.rgb, inputs.valid, size)
        return cls(probabilities(inputs.logit, size), rgb, valid)


def probabilities(logit: Tensor, size: Size) -> Tensor:
    """Softmax of raw scores (B, K, h', w') at another size: (B, K, h, w).

    Smaller scores are enlarged bilinearly before the softmax. Of larger scores, the probabilities are averaged.
    """
    if logit.shape[-2] > size[0] or logit.shape[-1] > size[1]:
        return F.adaptive_avg_pool2d(logit.softmax(1), size)
    if logit.shape[-2:] != size:
        logit = F.interpolate(logit, size, mode="bilinear", align_corners=False)
    return logit.softmax(1)


@torch.no_grad()
def shrink_colours(rgb: Tensor, valid: Tensor, size: Size) -> tuple[Tensor, Tensor]:
    """Average (B, 3, H, W) over the valid pixels (B, H, W) of each cell: (B, 3, h, w), and which cells are valid."""
    share = F.adaptive_avg_pool2d(valid[:, None].to(rgb.dtype), size)  # (B, 1, h, w)
    colour = F.adaptive_avg_pool2d(rgb.masked_fill(~valid[:, None], 0), size)
    kept = share >= 0.5
    return torch.where(kept, colour / share.clamp(min=0.5), 0), kept.squeeze(1)


def directions(embedding: Tensor) -> Tensor:
    """Raw embeddings (B, D, h, w) float, brought to the length sqrt(D), so that channels have about the deviation 1.

    The classifier and the relations see the direction of an embedding alone, so nothing holds its length, which grows
    to hundreds. Losses that compare embeddings by distances would find all pixels far from each other.
    """
    return F.normalize(embedding, dim=1) * embedding.shape[1] ** 0.5


def scaled(inputs: Inputs, scale: float) -> Size:
    """The size of the crop times `scale`, at least one pixel."""
    height, width = inputs.valid.shape[-2:]
    return max(round(height * scale), 1), max(round(width * scale), 1)


def mean(energy: Tensor, count: Tensor, inputs: Inputs) -> Tensor:
    """This process's share of a mean over all processes: its sum of `energy` divided by the `count` of all processes.

    Zero, with a graph, where the count is zero.
    """
    return energy.sum() / inputs.exchange.total(count).clamp(min=1)
