"""Pixel-to-prototype contrast (Du et al., CVPR 2022): pixels near the prototype of their class, far from the others.

A view is an image at one size; its maps are brought to one coarse grid, whose cells are the pixels here. N is the
number of pixels of this process, over all its images. Class 0 is the background where there is one, then come the
classes that have maps. Labels, weights and prototypes have no gradient; a feature has.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from spml.grouping.memory import ALONE, Exchange
from spml.losses.seam import with_background

VOID = 255
TOP = 32  # pixels that make a prototype
TINY = 1e-5
RELEASED, PAPER = "released", "paper"  # ways of mining
OF_PUBLISHED = 21  # the released numbers of negatives are for this many prototypes


@dataclass(frozen=True)
class View:
    """The pixels of one view of a batch; equally many in both views and in all processes."""

    feature: Tensor  # (N, D) float, unit rows or zero
    label: Tensor  # (N,) int64: a class below K; 255 counts nowhere
    prototype: Tensor  # (K, D) float, unit rows; a zero row: there is none

    @classmethod
    def of(
        cls, feature: Tensor, maps: Tensor, tag: Tensor, inside: Tensor, threshold: float | None, exchange: Exchange
    ) -> "View":
        """From maps of one size.

        Args:
            feature: (B, D, h, w) float, raw.
            maps, tag, inside, threshold: as in `weights_and_labels`.
        """
        unit = F.normalize(feature, dim=1, eps=TINY).permute(0, 2, 3, 1).flatten(0, 2)  # (N, D)
        weight, label = weights_and_labels(maps, tag, inside, threshold)
        return cls(unit, label, prototypes(feature.permute(0, 2, 3, 1).flatten(0, 2), weight, exchange))


@torch.no_grad()
def weights_and_labels(maps: Tensor, tag: Tensor, inside: Tensor, threshold: float | None) -> tuple[Tensor, Tensor]:
    """Of each pixel how much it is of each class, and its class.

    With min and max of a map x inside the image, x of a class that the image has becomes (x - min - 1e-5) /
    (max - min + 1e-5), at least zero; other maps are zero. The label is the class of the largest, or the background
    where that is at most `threshold`. A pixel of the background has the weight 1 - max there. The authors' code gives
    all pixels the same weight in the background, so its prototype is the mean of arbitrary ones.

    Args:
        maps: (B, C, h, w) float, raw.
        tag: (B, C) bool, true where the image has the class.
        inside: (B, h, w) bool; the other pixels (padding) have no weight and are void.
        threshold: of the background, in [0, 1); None where no class is background: a pixel without any map is void.

    Returns:
        weight (N, K) float in [0, 1] and label (N,) int64, 255 void; K = C + 1, or C without a background.
    """
    maps, outside = F.relu(maps), ~inside[:, None]
    high = maps.masked_fill(outside, 0).amax((2, 3), keepdim=True)
    low = torch.where(outside, high, maps).amin((2, 3), keepdim=True)
    maps = F.relu((maps - low - TINY) / (high - low + TINY)) * (tag[:, :, None, None] & inside[:, None])
    largest, label = maps.max(1)
    if threshold is None:
        label = label.masked_fill(~inside | (largest <= 0), VOID)
    else:
        label = (label + 1).masked_fill(largest <= threshold, 0).masked_fill(~inside, VOID)
        maps = with_background(maps)
        maps[:, 0] *= label == 0
    return maps.permute(0, 2, 3, 1).flatten(0, 2), label.flatten()


@torch.no_grad()
def prototypes(feature: Tensor, weight: Tensor, exchange: Exchange = ALONE, top: int = TOP) -> Tensor:
    """Of each class the mean of the `top` pixels of largest weight over all processes, by weight, at unit length.

    Pixels that weigh as much as the last of them, up to 1e-5, count, too: far from objects all belong to the background
    alike, and rounding shall not choose among them.

    Args:
        feature: (N, D) float, raw: a longer one counts more, as in the authors' code.
        weight: (N, K) float, 0 or more.

    Returns:
        (K, D); zero for a class without weight, whose pixels and prototype count nowhere.
    """
    largest, _ = exchange.stack(weight.topk(min(top, len(weight)), dim=0).values)  # (n, K)
    last = largest.topk(min(top, len(largest)), dim=0).values[-1]  # (K,)
    weight = weight.masked_fill(weight < last - TINY, 0)
    return F.normalize(exchange.total(weight.T @ feature), dim=1)


def contrast(
    feature: Tensor, label: Tensor, prototype: Tensor, temperature: float, mining: str | None = None
) -> tuple[Tensor, Tensor]:
    """-ln [e(f . p_y) / (e(f . p_y) + sum over negatives of e(f . p))] of each pixel, e(s) = exp(s / temperature).

    Args:
        feature: (N, D) float, unit rows.
        label: (N,) int64, y; 255 is void.
        prototype: (K, D) float, unit rows; zero rows are no prototypes.
        mining: which prototypes are negatives; None: all of other classes; else as in `mined`.

    Returns:
        (N,) of the type of `feature`, and (N,) bool: the pixels that count, which are not void and have a prototype.
        The others are 0.
    """
    there = prototype.ne(0).any(1)  # (K,)
    column = label.masked_fill(label == VOID, 0)
    counts = (label != VOID) & there[column]
    similarity = feature @ prototype.T  # (N, K)
    own = similarity.gather(1, column[:, None])  # (N, 1)
    others = torch.arange(len(prototype), device=label.device) != column[:, None]
    if mining is None:
        negative = similarity.masked_fill(~(there & others), -torch.inf)
    else:
        negative = mined(similarity, there, others, mining)
    loss = torch.cat([own, negative], 1).div(temperature).logsumexp(1) - own.squeeze(1) / temperature
    return loss.masked_fill(~counts, 0), counts


def mined(similarity: Tensor, there: Tensor, others: Tensor, mining: str) -> Tensor:
    """The semi-hard negatives of each pixel: similar prototypes, but for the most similar ones.

    "released", as the authors' code: of all P prototypes, the own one too, the 13/21 P most similar (rounded up)
    without the first 3/21 P (rounded, at least one); those are ranks 4 to 13 of 21. "paper": of the P - 1 others the
    60 % most similar (rounded up), of which the paper takes 50 %; it does not say which. We take the less similar half.

    Args:
        similarity: (N, K) float.
        there: (K,) bool, the classes that have a prototype.
        others: (N, K) bool, false at the own class.

    Returns:
        (N, n) of their similarities, n >= 0; -inf where a pixel has fewer.
    """
    count = int(there.sum())
    if mining == RELEASED:
        similar = similarity.masked_fill(~there, -torch.inf)
        end, start = -(-13 * count // OF_PUBLISHED), max(1, round(3 * count / OF_PUBLISHED))
    elif mining == PAPER:
        similar = similarity.masked_fill(~(there & others), -torch.inf)
        end = -(-3 * (count - 1) // 5)
        start = end // 2
    else:
        raise ValueError(f"mining: expected {RELEASED} or {PAPER}, got {mining!r}")
    return similar.topk(max(0, end), dim=1).values[:, start:]


@torch.no_grad()
def sampled(similarity: Tensor, label: Tensor, order: Tensor) -> Tensor:
    """How much each pixel counts in the intra-view contrast: half of its class at random, and half by hardness.

    Of a class of n pixels floor(n / 2) count by chance, and floor(n / 2) of the floor(0.6 n) least similar to their
    prototype: all but the very least similar. A pixel of both halves counts twice. The mean over these is averaged over
    the classes; one of a single pixel adds 0 but is a class.

    Args:
        similarity: (N,) float, to the own prototype.
        label: (N,) int64; 255 counts nowhere.
        order: (N,) float, random: the smallest are taken.

    Returns:
        (N,) float: the sum over pixels of this times their loss is the mean.
    """
    share = torch.zeros_like(similarity)
    classes = label[label != VOID].unique()
    for one in classes:
        pixels = (label == one).nonzero().squeeze(1)
        half, hard = len(pixels) // 2, 3 * len(pixels) // 5
        by_chance = order[pixels].argsort(stable=True)[:half]
        by_hardness = similarity[pixels].argsort(stable=True)[hard - half : hard]
        each = 1 / max(1, 2 * half * len(classes))
        share.index_add_(0, pixels[torch.cat([by_chance, by_hardness])], share.new_full((2 * half,), each))
    return share


def cross_contrast(feature: Tensor, label: Tensor, prototype: Tensor, temperature: float, exchange: Exchange) -> Tensor:
    """This process's share of the mean of `contrast` over the pixels that count; no mining."""
    loss, counts = contrast(feature, label, prototype, temperature)
    return loss.sum() / exchange.total(counts.sum()).clamp(min=1)


def intra_contrast(view: View, order: Tensor, temperature: float, mining: str, exchange: Exchange) -> Tensor:
    """This process's share of the mean of `contrast` with mined negatives over `sampled` pixels.

    Args:
        order: (N of all processes,) float, random, the same in all processes.
    """
    loss, counts = contrast(view.feature, view.label, view.prototype, temperature, mining)
    own = (view.feature.detach() * view.prototype[view.label.masked_fill(~counts, 0)]).sum(1)
    similarity, first = exchange.stack(own)
    label, _ = exchange.stack(view.label.masked_fill(~counts, VOID))
    share = sampled(similarity, label, order.to(similarity))
    return (share[first : first + len(loss)] * loss).sum()


def prototype_contrast(
    first: View,
    second: View,
    generator: torch.Generator | None = None,
    *,
    temperature: float = 0.1,
    mining: str = RELEASED,
    exchange: Exchange = ALONE,
) -> Mapping[str, Tensor]:
    """The three terms, each the mean of both views; without weights.

    cross_prototype: features and labels of a view, prototypes of the other one. cross_cam: features and prototypes of a
    view, labels of the other one. intra_view: all of one view, negatives `mined` and pixels `sampled`.

    Args:
        first, second: of the same pixels in the same order.
        generator: on the CPU, in the same state in all processes; draws one number a pixel, view and process.
        mining: "released" or "paper".

    Returns:
        Scalars of the type of the features, 0 or more: this process's share of each mean.
    """
    pixels = len(first.label) * exchange.processes
    views = ((first, second), (second, first))
    cross = [
        (
            cross_contrast(one.feature, one.label, other.prototype, temperature, exchange),
            cross_contrast(one.feature, other.label, one.prototype, temperature, exchange),
            intra_contrast(one, torch.rand(pixels, generator=generator), temperature, mining, exchange),
        )
        for one, other in views
    ]
    names = ("cross_prototype", "cross_cam", "intra_view")
    return {name: (a + b) / 2 for name, a, b in zip(names, *cross, strict=True)}
