"""Labels by retrieval: every query prototype asks its nearest prototypes of a memory (inference of the paper)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from spml.errors import UserError

BLOCK = 64  # neighbouring memory rows that are compared by their maximum before any of them is sorted
PRODUCT_BYTES = 32 << 20  # of one chunk of the query x memory product
QUERIES = 1024  # in one chunk


@torch.no_grad()
def retrieve(query: Tensor, memory: Tensor, memory_label: Tensor, k: int = 20) -> tuple[Tensor, Tensor]:
    """The labels of the `k` prototypes of the memory that are nearest to each query, most similar first.

    It never sorts the memory. It cuts a chunk of the product into blocks of 64 neighbouring columns and ranks the
    blocks by their maxima: only the k best blocks can hold one of the k best columns. It compares these with the best
    of the chunks before. The result is exact; of equally similar prototypes the first of the memory comes first.

    Args:
        query: (Q, C) float, rows as they are compared, usually of unit length.
        memory: (M, C) float, M >= 1, on the query's device.
        memory_label: (M,) integer, any values.
        k: number of neighbours, at least 1; a memory of fewer than k rows gives M.

    Returns:
        label (Q, min(k, M)), of memory_label's type, and similarity (Q, min(k, M)), float32, falling along a row.

    Raises:
        UserError: for an empty memory. ValueError: for shapes that do not fit.
    """
    if query.ndim != 2 or memory.ndim != 2 or query.shape[1] != memory.shape[1]:
        raise ValueError(f"expected query (Q, C) and memory (M, C), got {tuple(query.shape)} and {tuple(memory.shape)}")
    if memory_label.shape != memory.shape[:1]:
        raise ValueError(f"expected memory_label ({len(memory)},), got {tuple(memory_label.shape)}")
    if len(memory) == 0:
        raise UserError("the memory holds no prototype: expected at least one to retrieve from, got 0")
    if k < 1:
        raise ValueError(f"expected k >= 1, got {k}")
    parts = [_nearest(rows, memory, min(k, len(memory))) for rows in query.float().split(QUERIES)]
    similarity = torch.cat([part[0] for part in parts])  # (Q, k)
    index = torch.cat([part[1] for part in parts])  # (Q, k)
    return memory_label[index], similarity


def _nearest(query: Tensor, memory: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Similarity (Q, k) and memory row (Q, k) of the k nearest, by chunks of the memory."""
    width = max(PRODUCT_BYTES // (4 * max(len(query), 1)) // BLOCK, 1) * BLOCK
    width = min(width, -(-len(memory) // BLOCK) * BLOCK)
    product = query.new_empty(len(query), width)
    similarity = query.new_empty(len(query), 0)
    index = torch.empty(len(query), 0, dtype=torch.long, device=query.device)
    for start in range(0, len(memory), width):
        chunk = memory[start : start + width].float()
        torch.mm(query, chunk.T, out=product[:, : len(chunk)])
        product[:, len(chunk) :] = -torch.inf
        value, column = _best_columns(product, k)
        # what was found before stands in front, so that the stable sort keeps the memory's order among equals
        similarity = torch.cat([similarity, value], dim=1)
        similarity, order = similarity.sort(dim=1, descending=True, stable=True)
        similarity = similarity[:, :k]
        index = torch.cat([index, start + column], dim=1).gather(1, order[:, :k])
    return similarity, index


def _best_columns(product: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Value and column of the k largest entries a row (or of all, where fewer), the first of equal ones first."""
    blocks = product.unflatten(1, (-1, BLOCK))  # (Q, W / 64, 64)
    block = blocks.amax(2).sort(dim=1, descending=True, stable=True)[1][:, :k]
    block = block.sort(dim=1)[0]  # (Q, k), back in the memory's order
    candidate = blocks.gather(1, block[:, :, None].expand(-1, -1, BLOCK)).flatten(1)  # (Q, k * 64)
    value, order = candidate.sort(dim=1, descending=True, stable=True)
    order = order[:, :k]
    column = block.gather(1, order // BLOCK) * BLOCK + order % BLOCK
    return value[:, :k], column


def majority_label(label: Tensor) -> Tensor:
    """The most frequent label of each row; of equally frequent ones the smallest.

    Args:
        label: (Q, k) integer, k >= 1, any values.

    Returns:
        (Q,), of the same type.
    """
    if label.ndim != 2 or label.shape[1] == 0:
        raise ValueError(f"expected label (Q, k) with k >= 1, got {tuple(label.shape)}")
    count = (label[:, :, None] == label[:, None, :]).sum(2)  # (Q, k)
    rare = count < count.amax(1, keepdim=True)
    return label.masked_fill(rare, torch.iinfo(label.dtype).max).amin(1)


def label_share(label: Tensor, num_classes: int) -> Tensor:
    """The share of each class among the labels of a row.

    Args:
        label: (Q, k) integer; a value outside [0, num_classes), such as 255, counts for no class.
        num_classes: K.

    Returns:
        (Q, K) float32 in [0, 1]; a row sums to the share of its labels that lie in [0, K).
    """
    valid = (label >= 0) & (label < num_classes)
    safe = label.long().masked_fill(~valid, num_classes)
    return F.one_hot(safe, num_classes + 1).float().mean(1)[:, :num_classes]
