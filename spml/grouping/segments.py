"""Segments: the clusters of an image, split by its labels, and their prototypes (SPML, section 3.1)."""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from spml.grouping.kmeans import grid_labels, location_features, spherical_kmeans

SMALLEST = 1e-12  # length below which a vector is divided by this instead, as in F.normalize
COPIED_CHANNELS = 16  # a cache line of float32


@dataclass(frozen=True)
class Segments:
    """N pixels in image order, ignored ones left out, and the S segments that they form.

    A segment is one (image, cluster, semantic label, instance label); segments are sorted by that key, so those of
    an image stand side by side. Embeddings and prototypes carry gradient and have unit length.
    """

    embedding: Tensor  # (N, C) float
    embedding_with_location: Tensor  # (N, C + 2) float
    index: Tensor  # (N,) int64 in [0, S): the segment of each pixel
    batch_index: Tensor  # (N,) int64 in [0, B)
    semantic_label: Tensor  # (N,) int64, never the ignore index
    instance_label: Tensor  # (N,) int64
    prototype: Tensor  # (S, C) float: normalised sum of the segment's embeddings
    prototype_with_location: Tensor  # (S, C + 2) float
    prototype_batch_index: Tensor  # (S,) int64
    prototype_semantic_label: Tensor  # (S,) int64
    prototype_instance_label: Tensor  # (S,) int64


class _UnitRows(torch.autograd.Function):
    """(B, C, N) to unit rows (B, N, C): as F.normalize of the transposed tensor, which would write it twice over."""

    @staticmethod
    def forward(ctx: Any, embedding: Tensor) -> Tensor:
        batch, channels, count = embedding.shape
        unit = embedding.new_empty(batch, count, channels)
        length = embedding.new_empty(batch, count, 1)
        # Image by image: torch transposes a matrix by blocks, a batch of them by single numbers. And on the CPU some
        # channels at a time: a whole matrix is left to one thread.
        step = COPIED_CHANNELS if embedding.device.type == "cpu" else channels
        for rows, norm, image in zip(unit, length, embedding, strict=True):
            for target, source in zip(rows.split(step, dim=1), image.split(step), strict=True):
                target.copy_(source.T)
            torch.linalg.vector_norm(rows, dim=1, keepdim=True, out=norm)
            rows.div_(norm.clamp_(min=SMALLEST))
        ctx.save_for_backward(unit, length)
        return unit

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        unit, length = ctx.saved_tensors
        along = (unit * grad).sum(dim=-1, keepdim=True)
        return torch.addcmul(grad, unit, along, value=-1).div_(length).transpose(1, 2)


class _Join(torch.autograd.Function):
    """normalise(scale * unit, location): (B, N, C) and (B, N, L), which gets no gradient, to (B, N, C + L)."""

    @staticmethod
    def forward(ctx: Any, unit: Tensor, location: Tensor, scale: float) -> Tensor:
        channels = unit.shape[-1]
        lengths = [torch.linalg.vector_norm(part, dim=-1, keepdim=True) for part in (unit, location)]
        factor = torch.hypot(scale * lengths[0], lengths[1]).clamp_(min=SMALLEST).reciprocal_()  # (B, N, 1)
        joined = unit.new_empty(*unit.shape[:-1], channels + location.shape[-1])
        torch.mul(location, factor, out=joined[..., channels:])
        torch.mul(unit, factor.mul_(scale), out=joined[..., :channels])
        ctx.save_for_backward(joined, factor)
        ctx.channels = channels
        return joined

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        joined, factor = ctx.saved_tensors
        along = (joined * grad).sum(dim=-1, keepdim=True)
        own = torch.addcmul(grad[..., : ctx.channels], joined[..., : ctx.channels], along, value=-1)
        return own.mul_(factor), None, None


def segment_prototypes(embedding: Tensor, index: Tensor, num_segments: int) -> Tensor:
    """Return (S, C): the normalised sum of the rows of `embedding` (N, C) that share an `index` (N,) in [0, S).

    The gradient goes through sum and normalisation. A segment without pixels has the zero vector.
    """
    total = embedding.new_zeros(num_segments, embedding.shape[1]).index_add(0, index, embedding)
    return F.normalize(total, dim=1)


def segment_by_kmeans(
    embedding: Tensor,
    semantic_label: Tensor | None = None,
    instance_label: Tensor | None = None,
    *,
    num_clusters: tuple[int, int] = (6, 6),
    iterations: int = 10,
    ignore_index: int = 255,
    location: Tensor | None = None,
) -> Segments:
    """Cluster the pixels of each image and split every cluster by the labels that it covers.

    The embedding is normalised, joined by the location, normalised again, and clustered by spherical k-means from a
    regular grid. Clustering sees no gradient; prototypes do.

    Args:
        embedding: (B, C, H, W) float, raw: normalised here, in float32 at least.
        semantic_label: (B, H, W) integer; None takes zeros. Pixels of `ignore_index` belong to no segment.
        instance_label: (B, H, W) integer, an over-segmentation; None takes zeros.
        num_clusters: rows and columns of the starting grid, for each image.
        iterations: rounds of k-means.
        ignore_index: semantic label of pixels that are left out.
        location: (B, H, W, 2) or (H, W, 2) float; None takes y and x in -0.5..0.5. More than two values (DensePose:
            location and colour) leave clustering on the first two, and afterwards "with location" means
            normalise(0.1 * embedding, location).

    Returns:
        Segments; with no pixel left, N = S = 0.

    Raises:
        ValueError: shapes that do not fit.
    """
    batch, _, height, width = embedding.shape
    device = embedding.device
    for name, label in (("semantic_label", semantic_label), ("instance_label", instance_label)):
        if label is not None and label.shape != (batch, height, width):
            raise ValueError(f"{name}: expected shape {(batch, height, width)}, got {tuple(label.shape)}")
    zeros = torch.zeros(batch, height, width, dtype=torch.long, device=device)
    semantic = (zeros if semantic_label is None else semantic_label.long()).flatten(1)  # (B, HW)
    instance = (zeros if instance_label is None else instance_label.long()).flatten(1)
    if location is None:
        location = location_features(height, width, device)
    dtype = torch.promote_types(embedding.dtype, torch.float32)
    location = location.detach().to(dtype).expand(batch, height, width, -1).flatten(1, 2)  # (B, HW, 2 or more)

    # Pixels side by side in memory from here on; without it every later step would reorder them anew.
    unit = _UnitRows.apply(embedding.to(dtype).flatten(2))  # (B, HW, C)
    with_location = _Join.apply(unit, location[..., :2], 1.0)
    valid = semantic != ignore_index
    start = grid_labels(height, width, num_clusters, device).flatten().expand(batch, -1)
    total_clusters = num_clusters[0] * num_clusters[1]
    cluster = spherical_kmeans(with_location.detach(), start, valid, total_clusters, iterations)
    if location.shape[-1] > 2:
        with_location = _Join.apply(unit, location, 0.1)

    image = torch.arange(batch, device=device)[:, None].expand_as(cluster)
    keep = valid.flatten()
    labels = [t.flatten() for t in (image, cluster, semantic, instance)]
    unit, with_location = unit.flatten(0, 1), with_location.flatten(0, 1)
    if not bool(keep.all()):  # copies of what may be the largest tensors of a step
        kept = keep.nonzero().squeeze(1)
        labels = [t[kept] for t in labels]
        unit, with_location = unit[kept], with_location[kept]
    image, cluster, semantic, instance = labels  # (N,)
    key = _combine(image, cluster, semantic, instance)
    unique, index = torch.unique(key, return_inverse=True)  # (S,), (N,)
    first = torch.empty_like(unique).scatter_(0, index, torch.arange(len(key), device=device))  # a pixel of each
    return Segments(
        embedding=unit,
        embedding_with_location=with_location,
        index=index,
        batch_index=image,
        semantic_label=semantic,
        instance_label=instance,
        prototype=segment_prototypes(unit, index, len(unique)),
        prototype_with_location=segment_prototypes(with_location, index, len(unique)),
        prototype_batch_index=image[first],
        prototype_semantic_label=semantic[first],
        prototype_instance_label=instance[first],
    )


def _combine(*labels: Tensor) -> Tensor:
    """Return (N,) int64 keys that sort as the tuples of the (N,) non-negative labels do."""
    key = torch.zeros_like(labels[0])
    for label in labels:
        key = key * (label.max() + 1 if len(label) else 1) + label
    return key
