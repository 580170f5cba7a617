"""Pairs of near pixels and their affinity: by features (AffinityNet) or by the strongest edge between them (IRN).

Affinities of all pairs of a map are one row of P numbers: those of the first offset, row by row of the map, then those
of the next. A pair whose second pixel lies outside of the map does not exist.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

Offset = tuple[int, int]
# Of the 4 or 8 neighbours of a pixel, one of each pair.
NEIGHBOURS: dict[int, tuple[Offset, ...]] = {4: ((0, 1), (1, 0)), 8: ((0, 1), (1, 0), (1, 1), (1, -1))}


def disk_offsets(radius: int) -> list[Offset]:
    """The offsets (dy, dx) with dy^2 + dx^2 < radius^2, one of each pair +-(dy, dx).

    34 for radius 5, 152 for radius 10.
    """
    span = range(-radius + 1, radius)
    return [(dy, dx) for dy in span for dx in span if (dy, dx) > (0, 0) and dy * dy + dx * dx < radius * radius]


def pair(maps: Tensor, offset: Offset) -> tuple[Tensor, Tensor]:
    """Views of (.., h, w): pixels that have a neighbour at `offset` (dy, dx), and these neighbours."""
    dy, dx = offset
    height, width = maps.shape[-2:]
    first = maps[..., max(-dy, 0) : max(height - max(dy, 0), 0), max(-dx, 0) : max(width - max(dx, 0), 0)]
    second = maps[..., max(dy, 0) : max(height + min(dy, 0), 0), max(dx, 0) : max(width + min(dx, 0), 0)]
    return first, second


def path(offset: Offset) -> list[Offset]:
    """The pixels of the straight line from (0, 0) to `offset`, both ends among them, relative to the first pixel.

    They are the pixels of the bounding box whose distance from the line is below one (IRN's code). The path of a pair
    never leaves the map, as it stays within the bounding box of its ends.
    """
    dy, dx = offset
    rows, columns = range(min(dy, 0), max(dy, 0) + 1), range(min(dx, 0), max(dx, 0) + 1)
    length = dy * dy + dx * dx  # squared
    return [(y, x) for y in rows for x in columns if (dy * x - dx * y) ** 2 < length]


def feature_affinity(feature: Tensor, offsets: Sequence[Offset]) -> Tensor:
    """exp(-mean over channels of |f_i - f_j|) of every pair: AffinityNet's (Ahn and Kwak, CVPR 2018).

    The mean is that of the authors' code; the paper has the sum.

    Args:
        feature: (B, C, h, w) float, C >= 1.
        offsets: of the pairs, as `disk_offsets` returns them.

    Returns:
        (B, P) in (0, 1].
    """
    distance: Tensor = _MeanDistance.apply(feature, tuple(offsets))
    return (-distance).exp()


def path_affinity(edge: Tensor, offsets: Sequence[Offset]) -> Tensor:
    """1 - the maximum of the edges on the straight path of every pair, both ends among it.

    IRN's affinity (Ahn, Cho and Kwak, CVPR 2019).

    Args:
        edge: (B, h, w) float in [0, 1].
        offsets: of the pairs, as `disk_offsets` returns them.

    Returns:
        (B, P) in [0, 1]. The gradient goes to the strongest edge of a path, the first of equal ones.
    """
    strongest: Tensor = _PathMaximum.apply(edge, tuple(offsets))
    return 1 - strongest


def of_pairs(maps: Tensor, offsets: Sequence[Offset], combine: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """`combine(first, second)` of every pair of (.., h, w), in the order of affinities: (.., P)."""
    empty = maps.flatten(-2)[..., :0]  # a map of one pixel has no pair
    parts = [combine(*pair(maps, offset)).flatten(-2) for offset in offsets]
    return torch.cat([combine(empty, empty), *parts], dim=-1)


def by_offset(values: Tensor, offsets: Sequence[Offset], size: tuple[int, int]) -> list[Tensor]:
    """The values (.., P) of the pairs of a map of `size` (h, w) as maps: (.., h - |dy|, w - |dx|) of each offset."""
    sizes = [(max(size[0] - abs(dy), 0), max(size[1] - abs(dx), 0)) for dy, dx in offsets]
    parts = values.split([height * width for height, width in sizes], dim=-1)
    return [part.unflatten(-1, shape) for part, shape in zip(parts, sizes, strict=True)]


class _MeanDistance(torch.autograd.Function):
    """mean_c |f_i - f_j| of every pair. It holds the features alone, where autograd would hold 34 differences."""

    @staticmethod
    def forward(ctx: Any, feature: Tensor, offsets: tuple[Offset, ...]) -> Tensor:
        """(B, C, h, w) -> (B, P)."""
        ctx.save_for_backward(feature)
        ctx.offsets = offsets
        empty = feature.flatten(1)[:, :0]
        return torch.cat([empty, *(_difference(feature, one).abs().mean(1).flatten(1) for one in offsets)], dim=1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """(B, P) -> (B, C, h, w)."""
        (feature,) = ctx.saved_tensors
        result = torch.zeros_like(feature)
        parts = by_offset(gradients[0] / feature.shape[1], ctx.offsets, (feature.shape[-2], feature.shape[-1]))
        for offset, gradient in zip(ctx.offsets, parts, strict=True):
            change = _difference(feature, offset).sign_().mul_(gradient[:, None])
            first, second = pair(result, offset)
            first.add_(change)
            second.sub_(change)
        return result, None


def _difference(feature: Tensor, offset: Offset) -> Tensor:
    first, second = pair(feature, offset)
    return first - second


class _PathMaximum(torch.autograd.Function):
    """The maximum of a map on the path of every pair. It holds one byte a pair, the place of the maximum."""

    @staticmethod
    def forward(ctx: Any, edge: Tensor, offsets: tuple[Offset, ...]) -> Tensor:
        """(B, h, w) -> (B, P)."""
        ctx.offsets, ctx.shape = offsets, edge.shape
        values, places = [edge.flatten(1)[:, :0]], [torch.empty(len(edge), 0, dtype=torch.uint8, device=edge.device)]
        for offset in offsets:
            maximum, place = torch.stack([_along(edge, offset, step) for step in path(offset)]).max(0)
            values.append(maximum.flatten(1))
            places.append(place.flatten(1).to(torch.uint8))  # a path of radius 10 has at most 22 pixels
        ctx.save_for_backward(torch.cat(places, dim=1))
        return torch.cat(values, dim=1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """(B, P) -> (B, h, w)."""
        (places,) = ctx.saved_tensors
        result, size = gradients[0].new_zeros(ctx.shape), (ctx.shape[1], ctx.shape[2])
        parts = zip(by_offset(gradients[0], ctx.offsets, size), by_offset(places, ctx.offsets, size), strict=True)
        for offset, (gradient, place) in zip(ctx.offsets, parts, strict=True):
            for number, step in enumerate(path(offset)):
                _along(result, offset, step).add_(gradient * (place == number))
        return result, None


def _along(maps: Tensor, offset: Offset, step: Offset) -> Tensor:
    """The view of (.., h, w) at `step` from the first pixels of all pairs at `offset`."""
    first, _ = pair(maps, offset)
    top, left = max(-offset[0], 0) + step[0], max(-offset[1], 0) + step[1]
    return maps[..., top : top + first.shape[-2], left : left + first.shape[-1]]
