"""Gaussian filters on the permutohedral lattice (Adams, Baek and Davis, 2010), as tensor operations.

A point of d features is a mixture of the d + 1 corners of the simplex that it lies in. Filtering gives each corner its
share of the values (splat), blurs along the d + 1 axes of the lattice, and reads the mixture back (slice). Only corners
that some point touches exist. Each of the three is a sparse matrix, made once for an image and applied many times.
"""

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from spml.errors import UserError

SMALLEST = 1e-20  # added to a norm before its root
INDEX_LIMIT = 1 << 31


@dataclass(frozen=True)
class SparseMatrix:
    """Row i is the sum of `weight` times input row `index`, over the entries from offset[i] to offset[i + 1].

    An embedding bag computes the product. On the CPU it is faster than `torch.sparse` (2 x) and `index_add` (16 x). On
    CUDA one thread computes each number, so the result is deterministic, and the host does not wait.
    """

    index: Tensor  # (E,)
    weight: Tensor  # (E,)
    offset: Tensor  # (rows,)

    @classmethod
    def of_rows(cls, index: Tensor, weight: Tensor) -> "SparseMatrix":
        """Make a matrix with m entries a row from (rows, m) input rows and (rows, m) weights."""
        rows, entries = index.shape
        offset = torch.arange(0, rows * entries, entries, device=index.device)
        return cls(_short(index.flatten(), rows * entries), weight.flatten(), _short(offset, rows * entries))

    def __call__(self, values: Tensor) -> Tensor:
        """(rows of the input, K) -> (rows, K)."""
        weight = self.weight.to(values.dtype)
        return F.embedding_bag(self.index, values, self.offset, mode="sum", per_sample_weights=weight)


@dataclass(frozen=True)
class Lattice:
    """The filter as sparse matrices: N points to M corners, d + 1 blurs of the corners, corners to points."""

    splat: SparseMatrix
    blur: tuple[SparseMatrix, ...]
    slice: SparseMatrix

    def __call__(self, values: Tensor) -> Tensor:
        """Filter (N, K) float32: about sum_j exp(-|f_i - f_j|^2 / 2) values_j, times one constant."""
        values = self.splat(values)  # (M, K)
        for blur in self.blur:
            values = blur(values)
        return self.slice(values)  # (N, K)

    def symmetric(self, values: Tensor) -> Tensor:
        """Filter (N, K) float by (F + F') / 2, F being the filter of a call.

        Where corners are missing, the blurs depend on their order, so F is not symmetric. Its transpose blurs in the
        reverse order; splat and slice are each other's transpose.
        """
        values = self.splat(values)  # (M, K)
        ahead = back = values
        for blur, other in zip(self.blur, reversed(self.blur), strict=True):
            ahead, back = blur(ahead), other(back)
        return self.slice((ahead + back) / 2)  # (N, K)

    def normalised(self, weight: float = 1.0) -> "Lattice":
        """The filter weight * D^-1/2 F D^-1/2, with D the filter F of ones: symmetric normalisation."""
        points = self.slice.offset.shape[0]
        scale = (self(torch.ones(points, 1, device=self.splat.weight.device)) + SMALLEST).rsqrt().squeeze(1)  # (N,)
        corners = self.slice.weight.shape[0] // points
        splat = self.splat.weight * scale[self.splat.index]
        slice_ = (self.slice.weight.view(points, corners) * (weight * scale)[:, None]).flatten()
        return replace(self, splat=replace(self.splat, weight=splat), slice=replace(self.slice, weight=slice_))


def build_lattice(feature: Tensor) -> Lattice:
    """The lattice of B images with n points each; points of different images share no corner.

    It uses the coordinates, rounding and ties of pydensecrf in float32, so both find the same corners. (If B * n is no
    multiple of four, pydensecrf adds the corners of a point at the origin; these hold no values.)

    Args:
        feature: (B, n, d) float32, finite, divided by the standard deviations; B, n and d at least 1. Rows of the
            values that the lattice filters are in the order of feature.flatten(0, 1).

    Raises:
        UserError: features so far apart that a corner's coordinates do not fit into 64 bits.
    """
    images, points, d = feature.shape
    origin, axis, share = _embed(feature.flatten(0, 1))
    low, high = torch.stack([origin.amin(0), origin.amax(0)]).tolist()  # of d + 1 coordinates, of which d tell corners
    spans = [b - a + 4 * d + 1 for a, b in zip(low[:d], high[:d], strict=True)]  # of corners and their neighbours
    if images * math.prod(spans) >= 1 << 63:
        raise UserError("the CRF's standard deviations are too small for this image: expected larger ones")
    sizes = [images, *map(int, spans)]
    place = [math.prod(sizes[k + 1 :]) for k in range(d + 1)]  # a corner's key is a number of mixed radix
    radix = torch.tensor([*place[1:], 0], device=feature.device)  # (d + 1,)
    step = radix.sum() - (d + 1) * radix  # (d + 1,), from a corner to the next along an axis
    image = torch.arange(images, device=feature.device).repeat_interleave(points)
    first = image * place[0] + ((origin - origin.new_tensor(low) + 2 * d).long() * radix).sum(1)
    key = torch.cat([first[:, None], step[axis[:, :-1]]], 1).cumsum(1)  # (N, d + 1)
    return _connect(key, share, step)


def _embed(feature: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The simplex of each point (N, d): its first corner, the axes to the others, and the share of each corner.

    Returns:
        origin (N, d + 1) float32, whole numbers, the corner of remainder 0; axis (N, d + 1) long, along which corner
        m + 1 follows corner m; share (N, d + 1) float32, which sums to one.
    """
    d, device = feature.shape[1], feature.device
    deviation = float(torch.tensor(math.sqrt(2 / 3) * (d + 1), dtype=torch.float32))  # of the blur, in lattice units
    scale = torch.tensor([deviation * (1 / math.sqrt((i + 2) * (i + 1))) for i in range(d)]).to(device)
    scaled, total = feature * scale, torch.zeros_like(feature[:, 0])
    elevated = feature.new_empty(len(feature), d + 1)  # on the plane of coordinates that sum to zero
    for j in range(d, 0, -1):
        elevated[:, j] = total - j * scaled[:, j - 1]
        total = total + scaled[:, j - 1]
    elevated[:, 0] = total

    nearest = (elevated * (1 / (d + 1))).round()  # of remainder 0, but not always on the plane
    origin = nearest * (d + 1)
    order = torch.argsort(elevated - origin, dim=1, descending=True, stable=True)
    position = torch.arange(d + 1, device=device).expand_as(order)
    rank = torch.empty_like(order).scatter_(1, order, position) + nearest.sum(1, keepdim=True).long()
    wrap = (d + 1) * ((rank < 0).long() - (rank > d).long())  # back onto the plane
    origin, rank = origin + wrap, rank + wrap

    axis = torch.empty_like(order).scatter_(1, d - rank, position)  # the last in rank first
    residual = ((elevated - origin) * (1 / (d + 1))).gather(1, axis)  # (N, d + 1), ascending
    share = residual.diff(dim=1, prepend=residual[:, -1:] - 1)
    return origin, axis, share


def _connect(key: Tensor, share: Tensor, step: Tensor) -> Lattice:
    """The matrices for points with corners `key` and shares, (N, d + 1) each; `step` (d + 1,) leads to neighbours."""
    points, corners = key.shape
    ordered, order = key.flatten().sort(stable=True)
    new = torch.ones_like(ordered, dtype=torch.bool)
    new[1:] = ordered[1:] != ordered[:-1]
    start = new.nonzero().squeeze(1)
    corner = torch.empty_like(order).scatter_(0, order, new.cumsum(0) - 1).view(points, corners)
    entries = key.numel()
    splat = SparseMatrix(_short(order // corners, entries), share.flatten()[order], _short(start, entries))
    blur = tuple(_blur(ordered[start], by) for by in step)
    alpha = 1 / (1 + 2.0 ** (1 - corners))
    return Lattice(splat, blur, SparseMatrix.of_rows(corner, share * alpha))


def _blur(key: Tensor, step: Tensor) -> SparseMatrix:
    """Add half of both neighbours along one axis to each of the ascending corners (M,); a missing neighbour is zero."""
    count, wanted = len(key), key + step
    own = torch.arange(count, device=key.device)
    ahead = torch.searchsorted(key, wanted).clamp_(max=count - 1)
    found = key[ahead] == wanted
    target = torch.where(found, ahead, count)  # one row more takes what has no neighbour
    behind = own.new_zeros(count + 1).scatter_(0, target, own)[:-1]
    half = found.float() / 2
    half_behind = half.new_zeros(count + 1).scatter_(0, target, half)[:-1]
    weight = torch.stack([torch.ones_like(half), half, half_behind], 1)
    return SparseMatrix.of_rows(torch.stack([own, ahead, behind], 1), weight)


def _short(index: Tensor, limit: int) -> Tensor:
    """The index in 32 bits where these can hold `limit`, which halves the memory to read."""
    return index.int() if limit < INDEX_LIMIT else index
