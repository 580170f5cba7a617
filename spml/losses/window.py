"""Pairs of pixels within a window, as shifted views of a map: no copy of the map for each neighbour."""

from spml.propagate.pairs import Offset, pair

__all__ = ["Offset", "half_window", "pair"]


def half_window(radius: int) -> list[Offset]:
    """The offsets (dy, dx) up to `radius` along each axis, without (0, 0) and one of each pair +-(dy, dx)."""
    span = range(-radius, radius + 1)
    return [(dy, dx) for dy in span for dx in span if (dy, dx) > (0, 0)]
