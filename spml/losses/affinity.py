"""Losses over pairs of near pixels: AffinityNet's (Ahn and Kwak, CVPR 2018) and IRN's (Ahn, Cho and Kwak, CVPR 2019).

The labels are confident areas of class activation maps. Two labelled pixels of one class are a positive pair, two of
different classes a negative one; a pixel without a class (unlabelled, void, padding) is in no pair. Pairs of background
and pairs of objects are averaged apart, because there are many more of the first.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from spml.classes import IGNORE
from spml.grouping.memory import ALONE, Exchange
from spml.propagate.pairs import Offset, of_pairs

TINY = 1e-5  # as in the authors' code; it bounds each logarithm at 11.5


@dataclass(frozen=True)
class PairKinds:
    """What the labels say of every pair, (B, P) bool each; at most one is true."""

    background: Tensor  # both are background
    objects: Tensor  # both are of one class that is no background
    different: Tensor  # of two classes

    @classmethod
    def of(cls, label: Tensor, offsets: Sequence[Offset], num_classes: int, background: int | None = 0) -> "PairKinds":
        """The kinds of the pairs of a label map.

        Args:
            label: (B, h, w) int; only values below `num_classes` form pairs.
            offsets: of the pairs, as in `spml.propagate.pairs`.
            background: its class; None: no class is background, so all equal pairs are objects.
        """
        known = of_pairs(label < num_classes, offsets, torch.logical_and)
        same = of_pairs(label, offsets, torch.eq) & known
        if background is None:
            return cls(torch.zeros_like(same), same, known & ~same)
        both = of_pairs(label == background, offsets, torch.logical_and)
        return cls(both, same & ~both, known & ~same)


def cell_label(label: Tensor, stride: int, num_classes: int) -> Tensor:
    """The most frequent class of each cell of `stride` x `stride` pixels, the first of equally frequent ones.

    Pixels without a class count as one class of their own, the last: where they are more, the cell is 255.

    Args:
        label: (B, H, W) int64, 0..255; values from `num_classes` on (unlabelled, 255: void and padding) are no class.

    Returns:
        (B, ceil(H / stride), ceil(W / stride)) int64.
    """
    label = label.masked_fill(label >= num_classes, num_classes)
    height, width = label.shape[-2:]
    label = F.pad(label, (0, -width % stride, 0, -height % stride), value=num_classes)
    cells = label.unflatten(2, (-1, stride)).unflatten(1, (-1, stride)).transpose(2, 3).flatten(3)  # (B, h, w, s * s)
    flat, kinds = cells.flatten(0, 2), num_classes + 1
    index = torch.arange(len(flat), device=label.device)[:, None] * kinds + flat
    best = torch.bincount(index.flatten(), minlength=len(flat) * kinds).view(-1, kinds).argmax(1)
    return best.masked_fill(best == num_classes, IGNORE).view(cells.shape[:3])


def affinity_terms(affinity: Tensor, kinds: PairKinds, exchange: Exchange = ALONE) -> dict[str, Tensor]:
    """The three parts of AffinityNet's loss; those of IRN's boundary loss are the same, of another affinity.

    background and objects: means of -log(W + 1e-5) over the positive pairs of either kind; different: the mean of
    -log(1 - W + 1e-5) over the negative pairs. The authors weigh them 1/4, 1/4 and 1/2. A part without pairs is zero.

    Args:
        affinity: (B, P) float in [0, 1], W.
        exchange: the other processes; each part is this process's share of a mean over all of them.

    Returns:
        Scalars of the type of `affinity`.
    """
    alike, apart = -(affinity + TINY).log(), -(1 - affinity + TINY).log()
    return {
        "background": _mean(alike, kinds.background, exchange),
        "objects": _mean(alike, kinds.objects, exchange),
        "different": _mean(apart, kinds.different, exchange),
    }


def displacement_terms(
    displacement: Tensor, kinds: PairKinds, offsets: Sequence[Offset], exchange: Exchange = ALONE
) -> dict[str, Tensor]:
    """IRN's displacement losses: two pixels of an object point to one centre, background pixels do not move.

    Of two pixels of one object i + D_i and j + D_j shall be equal. displacement_objects is the mean over pairs and both
    components of |i + D_i - j - D_j|, displacement_background that of |D_i - D_j|. The authors weigh both 1/2.

    Args:
        displacement: (B, 2, h, w) float, dy and dx in cells of the map.
        kinds, offsets: of the same pairs.
        exchange: as in `affinity_terms`.
    """
    height, width = displacement.shape[-2:]
    rows = torch.arange(height, device=displacement.device, dtype=displacement.dtype)
    columns = torch.arange(width, device=displacement.device, dtype=displacement.dtype)
    place = torch.stack([rows[:, None].expand(height, width), columns.expand(height, width)])  # (2, h, w)
    apart = of_pairs(displacement + place, offsets, torch.sub).abs().mean(1)  # (B, P)
    change = of_pairs(displacement, offsets, torch.sub).abs().mean(1)
    return {
        "displacement_objects": _mean(apart, kinds.objects, exchange),
        "displacement_background": _mean(change, kinds.background, exchange),
    }


def _mean(values: Tensor, chosen: Tensor, exchange: Exchange) -> Tensor:
    """This process's share of the mean of the chosen values of all processes; 0, with a graph, where there are none."""
    return (values * chosen).sum() / exchange.total(chosen.sum()).clamp(min=1)
