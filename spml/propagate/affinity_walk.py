"""Propagates scores by a random walk over near pixels, whose affinity a network has learned (AffinityNet, IRN).

The step matrix is sparse: a pixel steps to the pixels within a radius, and its row is stored by offset, so that a step
is a sum of shifted maps on any device. No matrix of all pixels by all pixels is made.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from spml.propagate.pairs import Offset, by_offset, disk_offsets, pair, path_affinity


@torch.no_grad()
def affinity_walk(
    affinity: Tensor, score: Tensor, offsets: Sequence[Offset], beta: float = 8, steps: int = 256
) -> Tensor:
    """T^steps score, T = D^-1 W^beta: W the affinities, entry by entry to `beta`, and D the sums of its rows.

    A pixel's affinity to itself is one. T is similar to a symmetric matrix with eigenvalues in [-1, 1], so its power is
    a sum of some 5 sqrt(steps) Chebyshev polynomials of it: 84 products for 256 steps; see `power_weights`. In
    float32 this is exact to about 1e-5. The authors square a dense matrix of n^2 numbers, at n^3 a squaring.

    Args:
        affinity: (P,) float in [0, 1], of the pairs of a map in the order of `spml.propagate.pairs`.
        score: (K, h, w) float: a map of scores a class; finite.
        offsets: of the pairs.
        beta: sharpness, above 0.
        steps: at least 0; 0 returns the scores.

    Returns:
        (K, h, w) of the type of `score`. A step averages, so its extremes are not exceeded, but by rounding.

    Raises:
        ValueError: another number of pairs than the map has.
    """
    size = (score.shape[-2], score.shape[-1])
    pairs = sum(max(size[0] - abs(dy), 0) * max(size[1] - abs(dx), 0) for dy, dx in offsets)
    if affinity.shape != (pairs,):
        raise ValueError(f"expected an affinity ({pairs},) of the pairs of {size}, got {tuple(affinity.shape)}")
    bands = by_offset(affinity.to(score.dtype).pow(beta), offsets, size)
    total = score.new_ones(size)  # of each row: the pixel itself, and its neighbours
    for offset, weight in zip(offsets, bands, strict=True):
        for end in pair(total, offset):
            end.add_(weight)

    def step(maps: Tensor) -> Tensor:
        result = maps.clone()
        for offset, weight in zip(offsets, bands, strict=True):
            for target, source in zip(pair(result, offset), reversed(pair(maps, offset)), strict=True):
                target.addcmul_(weight, source)
        return result.div_(total)

    return _power(step, score, steps)


def _power(step: Callable[[Tensor], Tensor], maps: Tensor, steps: int) -> Tensor:
    """Apply `step`, a linear map with eigenvalues in [-1, 1], `steps` times."""
    weights = power_weights(steps, torch.finfo(maps.dtype).eps)
    if len(weights) >= steps:  # a short walk: the plain way is as short
        for _ in range(steps):
            maps = step(maps)
        return maps
    before, now = maps, step(maps)  # the polynomials T_0 and T_1
    result = weights[0] * before + weights[1] * now
    for weight in weights[2:]:
        before, now = now, step(now).mul_(2).sub_(before)
        if weight:
            result.add_(now, alpha=weight)
    return result


def power_weights(steps: int, tolerance: float) -> list[float]:
    """Weights w of x^steps = sum_k w_k T_k(x), without the last ones, whose sum is below `tolerance`.

    With x = cos a, T_k(x) = cos(k a), and the powers of a cosine are binomial: w_k = 2^(1 - n) C(n, (n - k) / 2) where
    k is odd as n is, else 0; half of it for k = 0. All are positive and sum to one, so nothing cancels.
    """
    weights, rest = [], 1.0
    for k in range(steps + 1):
        odd = (steps - k) % 2
        weight = 0.0 if odd else math.comb(steps, (steps - k) // 2) / 2**steps * (1 if k == 0 else 2)
        weights.append(weight)
        rest -= weight
        if rest < tolerance:
            break
    return weights


@torch.no_grad()
def edge_walk(edge: Tensor, score: Tensor, radius: int = 5, beta: float = 10, steps: int = 256) -> Tensor:
    """IRN's walk: the affinity of a pair is 1 - the strongest edge between, and scores start as score x (1 - edge).

    IRN's code pads the edges with 1 around the image. This changes nothing: no path between two pixels of the image
    leaves it.

    Args:
        edge: (h, w) float in [0, 1], 1 on a boundary.
        score: (K, h, w) float >= 0: a CAM a class.
        radius: of the pairs.
        beta, steps: as in `affinity_walk`.

    Returns:
        (K, h, w) >= 0, divided by the largest of its values; zero where all are zero.

    Raises:
        ValueError: shapes that do not fit.
    """
    if edge.shape != score.shape[1:]:
        raise ValueError(f"expected edge (h, w) and score (K, h, w), got {tuple(edge.shape)} and {tuple(score.shape)}")
    offsets = disk_offsets(radius)
    edge = edge.to(score.dtype)
    walked = affinity_walk(path_affinity(edge[None], offsets)[0], score * (1 - edge), offsets, beta, steps)
    largest = walked.max() if walked.numel() else walked.new_zeros(())
    return walked.clamp(min=0) / torch.where(largest > 0, largest, 1)
