"""A filter along the minimum spanning tree of an image's grid, in two linear passes (Song et al., NeurIPS 2019)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import breadth_first_order, minimum_spanning_tree
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

Array = np.ndarray


@dataclass(frozen=True)
class Tree:
    """One rooted tree over the pixels of each image of a batch, all in one list that starts with the roots.

    The N = B h w pixels are sorted by depth, so that each depth is a slice and every parent comes before its children.
    """

    pixel: Tensor  # (N,) int64: the number b h w + y w + x of each
    parent: Tensor  # (N,) int64: the place of its parent in this list; a root's own place
    connected: Tensor  # (N,) bool: the edge to the parent joins two valid pixels; false for roots
    levels: tuple[tuple[int, int], ...]  # start and end of depth 1, 2, ..

    @classmethod
    @torch.no_grad()
    def of(cls, feature: Tensor, valid: Tensor) -> "Tree":
        """The minimum spanning tree of the 4-connected grid, edges weighted by squared distance of features.

        Edges at pixels that are not valid are longer than all others, so that the tree connects valid pixels through
        valid ones where it can. The filter passes nothing along these edges.

        Args:
            feature: (B, C, h, w) float.
            valid: (B, h, w) bool.
        """
        batch, _, height, width = feature.shape
        across = (feature[..., 1:] - feature[..., :-1]).double().square().sum(1)  # (B, h, w - 1)
        down = (feature[..., 1:, :] - feature[..., :-1, :]).double().square().sum(1)  # (B, h - 1, w)
        both = [valid[..., 1:] & valid[..., :-1], valid[:, 1:] & valid[:, :-1]]
        edges = zip((across, down), both, strict=True)
        length = torch.cat([torch.where(b, d, torch.inf).flatten(1) for d, b in edges], 1).cpu().numpy()
        number = np.arange(height * width).reshape(height, width)
        ends = (
            np.concatenate([number[:, :-1].ravel(), number[:-1].ravel()]),
            np.concatenate([number[:, 1:].ravel(), number[1:].ravel()]),
        )
        parts = [_rooted(one, ends, height * width) for one in length]
        return cls._join(parts, valid)

    @classmethod
    def _join(cls, parts: Sequence[tuple[Array, Array, Array]], valid: Tensor) -> "Tree":
        """The trees (pixel, parent's pixel, depth) of the images, in one list by depth."""
        size = valid[0].numel()
        pixel = np.concatenate([part[0] + number * size for number, part in enumerate(parts)])
        parent = np.concatenate([part[1] + number * size for number, part in enumerate(parts)])
        depth = np.concatenate([part[2] for part in parts])
        order = depth.argsort(kind="stable")
        place = np.empty_like(order)
        place[pixel[order]] = np.arange(len(order))
        bounds = np.bincount(depth).cumsum().tolist()
        there = valid.flatten()
        pixel_, parent_ = (torch.from_numpy(index[order]).to(valid.device) for index in (pixel, parent))
        connected = there[pixel_] & there[parent_] & (pixel_ != parent_)
        place_ = torch.from_numpy(place).to(valid.device)
        return cls(pixel_, place_[parent_], connected, tuple(zip(bounds[:-1], bounds[1:], strict=True)))

    def affinity(self, feature: Tensor, sigma: float) -> Tensor:
        """exp(-|f_i - f_parent|^2 / sigma) of each pixel's edge, 0 where nothing passes: (B, C, h, w) -> (N,)."""
        rows = feature.permute(0, 2, 3, 1).flatten(0, 2)[self.pixel]  # (N, C)
        distance = (rows - rows[self.parent]).square().sum(1)
        return (-distance / sigma).exp() * self.connected


def tree_filter(values: Tensor, tree: Tree, affinity: Tensor) -> Tensor:
    """Each pixel's mean of `values` over its image, weighted by the product of affinities along the path in the tree.

    Y_i = sum_j s_ij P_j / sum_j s_ij with s_ii = 1. The gradients of values and affinities are exact.

    Args:
        values: (B, C, h, w) float, P.
        tree: of the same B, h and w.
        affinity: (N,) float in 0..1 of each pixel's edge, as `Tree.affinity` gives it; 0 for roots.

    Returns:
        (B, C, h, w). A pixel that is not valid keeps its value.
    """
    batch, channels, height, width = values.shape
    rows = values.permute(0, 2, 3, 1).flatten(0, 2)[tree.pixel]  # (N, C)
    rows = torch.cat([rows, torch.ones_like(rows[:, :1])], 1)
    total = _Passes.apply(rows, affinity, tree)
    rows = total[:, :-1] / total[:, -1:]
    image = torch.empty_like(rows).index_copy(0, tree.pixel, rows)
    return image.view(batch, height, width, channels).permute(0, 3, 1, 2)


class _Passes(Function):
    """sum_j s_ij P_j of rows (N, C) in the tree's order: up from the leaves, then down from the root."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, affinity: Tensor, tree: Tree) -> Tensor:
        below, total = _passes(rows, affinity, tree)
        ctx.tree = tree
        ctx.save_for_backward(affinity, below, total)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor | None, None]:
        """The filter is symmetric, so the gradient of the rows is the filtered gradient.

        An edge joins the subtree below it to the rest of its tree. Its gradient is the gradient's sum over one side
        times the rows' sum over the other, for both choices of the side.
        """
        affinity, below, total = ctx.saved_tensors
        grad_below, grad_total = _passes(grad, affinity, ctx.tree)
        if not ctx.needs_input_grad[1]:
            return grad_total, None, None
        parent, share = ctx.tree.parent, affinity[:, None]
        rest, grad_rest = total[parent] - share * below, grad_total[parent] - share * grad_below
        slope = (grad_below * rest + grad_rest * below).sum(1)
        return grad_total, slope * ctx.tree.connected, None


def _passes(rows: Tensor, affinity: Tensor, tree: Tree) -> tuple[Tensor, Tensor]:
    """Sums over each pixel's subtree and over its whole tree, weighted by the affinity to the pixel: (N, C) each."""
    share = affinity[:, None]
    below = rows.clone()
    for start, end in reversed(tree.levels):
        below.index_add_(0, tree.parent[start:end], share[start:end] * below[start:end])
    total = (1 - share.square()) * below  # subtract what the parent already has from this subtree
    for start, end in tree.levels:
        total[start:end].addcmul_(share[start:end], total[tree.parent[start:end]])
    return below, total


def _rooted(length: Array, ends: tuple[Array, Array], pixels: int) -> tuple[Array, Array, Array]:
    """The minimum spanning tree of one image. The root is the middle of its longest path, which halves the depth.

    Args:
        length: (E,) float64, 0 or more; infinite for edges that serve only where nothing else connects their ends.
        ends: two (E,) of pixels.

    Returns:
        pixel, its parent (the root's is itself) and its depth, (pixels,) int64 each, by depth.
    """
    finite = np.isfinite(length)
    far = 2 * length[finite].max(initial=0) + 2
    weight = np.where(finite, length + 1, far)  # above zero, as the library takes zero for no edge
    tree = minimum_spanning_tree(csr_array(coo_array((weight, ends), shape=(pixels, pixels))))
    tree = tree + tree.T
    order, _ = breadth_first_order(tree, 0)
    order, parent = breadth_first_order(tree, order[-1])
    middle = order[-1]
    for _ in range((len(_bounds(order, parent)) - 2) // 2):
        middle = parent[middle]
    order, parent = breadth_first_order(tree, middle)
    bounds = _bounds(order, parent)
    parent[middle] = middle
    depth = np.arange(len(bounds) - 1).repeat(np.diff(bounds))
    return order.astype(np.int64), parent[order].astype(np.int64), depth


def _bounds(order: Array, parent: Array) -> list[int]:
    """Where each depth of a breadth-first order starts, and its end. Parents have the order of their children."""
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    above = place[parent[order[1:]]]  # ascending
    bounds = [0, 1]
    while bounds[-1] < len(order):
        bounds.append(1 + int(np.searchsorted(above, bounds[-1])))
    return bounds
