"""Pen strokes inside a region, drawn as a hand would: along the middle, smooth, a little wavy, never outside."""

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import dijkstra

Array = NDArray

MAX_NODES = (
    12_000  # of the grid on which paths are searched; a larger region is searched on every second, third.. pixel
)
MANY_STROKES = (0.08, 0.25, 0.5)  # parts of the image from which on a region gets 2, 3, 4 strokes


def inner_distance(inside: Array) -> Array:
    """Distance float32 of each pixel to the nearest one outside `inside` (H, W) bool; beyond the frame is outside."""
    return _distance(np.pad(inside.astype(np.uint8), 1))[1:-1, 1:-1]


def _distance(inside: Array) -> Array:
    """Distance float32 of each pixel of (H, W) uint8 to the nearest zero, the same however many threads there are.

    With one thread OpenCV would ask IPP, whose distances are off by a rounding, and other strokes would follow.
    """
    before = cv2.ipp.useIPP()
    cv2.ipp.setUseIPP(False)
    try:
        return cv2.distanceTransform(inside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    finally:
        cv2.ipp.setUseIPP(before)


def draw_strokes(distance: Array, rng: np.random.Generator, length_ratio: float, share: float) -> Array:
    """Lines one pixel wide along the inside of one connected region.

    Args:
        distance: (h, w) float32 in the window that the region lies in, as of `inner_distance`: above 0 inside.
        length_ratio: in [0, 1], the part of each line that is drawn, around its middle. The random numbers used do not
            depend on it, so a shorter line is part of the longer.
        share: part of the image that the region takes; a large one gets several lines.

    Returns: (h, w) bool.
    """
    field = _Field(distance)
    drawn, whole = np.zeros(distance.shape, bool), np.zeros(distance.shape, bool)
    for _ in range(1 + sum(share >= part for part in MANY_STROKES)):
        curve = _by_hand(field.path(rng, whole), distance, rng)
        whole |= _raster(curve, 1.0, distance)
        drawn |= _raster(curve, length_ratio, distance)
    return drawn


class _Field:
    """The grid of a region on which the middle paths are searched."""

    def __init__(self, distance: Array) -> None:
        area = int((distance > 0).sum())
        step = max(1, int(np.ceil(np.sqrt(area / MAX_NODES))))
        grid = np.argwhere(distance[::step, ::step] > 0) * step
        if len(grid) < 2:  # a region thinner than the step
            step, grid = 1, np.argwhere(distance > 0)
        self.distance = distance
        self.node = grid  # (N, 2) row and column
        self.depth = distance[grid[:, 0], grid[:, 1]]  # (N,)
        index: Array = np.full(distance[::step, ::step].shape, -1)
        index[grid[:, 0] // step, grid[:, 1] // step] = np.arange(len(grid))
        ends = []
        for dy, dx in ((0, 1), (1, 0), (1, 1), (1, -1)):
            near = index[: index.shape[0] - dy, max(0, -dx) : index.shape[1] - max(0, dx)]
            far = index[dy:, max(0, dx) : index.shape[1] - max(0, -dx)]
            both = (near >= 0) & (far >= 0)
            ends.append(np.stack([near[both], far[both]]))
        self.edge = np.concatenate(ends, axis=1)  # (2, E)
        self.length = np.linalg.norm(grid[self.edge[0]] - grid[self.edge[1]], axis=1)

    def path(self, rng: np.random.Generator, drawn: Array) -> Array:
        """The nodes (L, 2) of a path between two far points that keeps to the middle and away from `drawn` strokes."""
        deep = self.depth >= 0.35 * self.depth.max()
        if drawn.any():
            clear = _distance((~drawn).astype(np.uint8))
            away = clear[self.node[:, 0], self.node[:, 1]]
            start = _pick(np.where(deep, away, -1), 0.7, rng)
            crowd = 1 + 10 * np.exp(-away / max(2.0, 0.4 * float(self.depth.max())))
            longest = 0.6
        else:
            seed = int(rng.choice(np.flatnonzero(deep)))
            start = _pick(np.where(deep, self._walk(seed, np.ones(len(self.node)))[0], -1), 0.85, rng)
            away, crowd = np.ones(len(self.node)), np.ones(len(self.node))
            longest = 1.0
        reach, _ = self._walk(start, np.ones(len(self.node)))
        end = _pick(np.where(deep, np.minimum(reach, longest * reach.max()) * away, -1), 0.75, rng)
        # The cost falls with the depth, up to half of the deepest: in a wide region a hand does not keep to the ridge.
        _, before = self._walk(start, crowd / np.minimum(self.depth, 0.5 * self.depth.max() + 1) ** 2)
        nodes = [end]
        while nodes[-1] != start and before[nodes[-1]] >= 0:
            nodes.append(int(before[nodes[-1]]))
        return self.node[nodes[::-1]]

    def _walk(self, start: int, cost: Array) -> tuple[Array, Array]:
        """Distance of every node from `start` (-1 where there is no way) and the node before it on the way."""
        near, far = self.edge
        weight = self.length * (cost[near] + cost[far]) / 2
        graph: csr_array = coo_array((weight, (near, far)), shape=(len(self.node),) * 2).tocsr()
        reach, before = dijkstra(graph, directed=False, indices=start, return_predecessors=True)
        return np.where(np.isfinite(reach), reach, -1), before


def _pick(score: Array, part: float, rng: np.random.Generator) -> int:
    """A random index among those that score at least `part` of the best."""
    return int(rng.choice(np.flatnonzero(score >= part * score.max())))


def _by_hand(path: Array, distance: Array, rng: np.random.Generator) -> Array:
    """A smooth, slightly wavy curve (M, 2) along `path` (L, 2), with points half a pixel apart."""
    curve = _resample(path.astype(float))
    room = ndimage.map_coordinates(distance, curve.T, order=1, mode="nearest")
    wave = _wave(len(curve), rng) * np.minimum(ndimage.gaussian_filter1d(room, 20), 20)
    smooth = float(np.clip(2 * np.median(room), 6, 40))
    for sigma, height in ((smooth, 0.4), (smooth, 0.2), (smooth / 2, 0.1), (smooth / 4, 0.0), (2.0, 0.0)):
        line = ndimage.gaussian_filter1d(curve, sigma, axis=0, mode="nearest")
        ahead = np.gradient(line, axis=0) if len(line) > 1 else np.zeros_like(line)
        across = ahead[:, ::-1] * (-1, 1) / np.maximum(np.linalg.norm(ahead, axis=1, keepdims=True), 1e-6)
        line = line + height * wave[:, None] * across
        inner = ndimage.map_coordinates(distance, line.T, order=1, mode="constant")
        if (inner >= np.minimum(2.0, room)).all():
            return _resample(line)
    return curve


def _wave(count: int, rng: np.random.Generator) -> Array:
    """Low-frequency noise (count,) in -1..1: a hand's drift, of half a period to one and a half along the stroke."""
    place = np.linspace(0, 1, count)
    turns, phase = rng.uniform(0.5, 1.5, 3), rng.uniform(0, 2 * np.pi, 3)
    return np.sin(2 * np.pi * turns * place[:, None] + phase).mean(axis=1)


def _resample(curve: Array) -> Array:
    """The polyline `curve` (L, 2) with points half a pixel apart, both ends kept."""
    gap = np.linalg.norm(np.diff(curve, axis=0), axis=1)
    place = np.concatenate([[0.0], np.cumsum(gap)])
    new = np.linspace(0, place[-1], 2 * int(np.ceil(place[-1])) + 1)
    return np.stack([np.interp(new, place, curve[:, axis]) for axis in (0, 1)], axis=1)


def _raster(curve: Array, length_ratio: float, distance: Array) -> Array:
    """The pixels inside the region under the middle `length_ratio` of the curve; the middle point always counts."""
    middle = len(curve) // 2
    half = int(np.floor(length_ratio * middle))
    pixel = np.rint(curve[middle - half : middle + half + 1]).astype(int)
    pixel = pixel.clip(0, np.array(distance.shape) - 1)
    line = np.zeros(distance.shape, bool)
    line[pixel[:, 0], pixel[:, 1]] = True
    return line & (distance > 0)
