"""Pairs of pixels within a window, as shifted views of a map: no copy of the map for each neighbour."""

from torch import Tensor

Offset = tuple[int, int]


def half_window(radius: int) -> list[Offset]:
    """The offsets (dy, dx) up to `radius` along each axis, without (0, 0) and one of each pair +-(dy, dx)."""
    span = range(-radius, radius + 1)
    return [(dy, dx) for dy in span for dx in span if (dy, dx) > (0, 0)]


def pair(maps: Tensor, offset: Offset) -> tuple[Tensor, Tensor]:
    """Views of (B, C, h, w): pixels that have a neighbour at `offset` (dy, dx), and these neighbours."""
    dy, dx = offset
    height, width = maps.shape[-2:]
    first = maps[..., max(-dy, 0) : max(height - max(dy, 0), 0), max(-dx, 0) : max(width - max(dx, 0), 0)]
    second = maps[..., max(dy, 0) : max(height + min(dy, 0), 0), max(dx, 0) : max(width + min(dx, 0), 0)]
    return first, second
