"""Spherical k-means on pixel embeddings, started from a regular grid (SegSort, section 3.1)."""

import torch
import torch.nn.functional as F
from torch import Tensor

CHUNK_ELEMENTS = 1 << 21  # 8 MB of float32 at most, features or similarities: stays in a cache, and calls are few


def location_features(height: int, width: int, device: torch.device | str = "cpu") -> Tensor:
    """Return (height, width, 2) float32: y and x of every pixel, each from -0.5 to 0.5 over the image."""
    y = torch.linspace(0, 1, height, device=device) - 0.5
    x = torch.linspace(0, 1, width, device=device) - 0.5
    return torch.stack(torch.meshgrid(y, x, indexing="ij"), dim=-1)


def grid_labels(height: int, width: int, num_clusters: tuple[int, int], device: torch.device | str = "cpu") -> Tensor:
    """Return (height, width) int64: the cell of a num_clusters[0] x num_clusters[1] grid that each pixel starts in."""
    y = torch.linspace(0, num_clusters[0] - 1, height, device=device).round().long()
    x = torch.linspace(0, num_clusters[1] - 1, width, device=device).round().long()
    return y[:, None] * num_clusters[1] + x[None, :]


@torch.no_grad()
def spherical_kmeans(feature: Tensor, label: Tensor, valid: Tensor, num_clusters: int, iterations: int) -> Tensor:
    """Cluster the pixels of every image of a batch at once, by direction.

    Each round takes the mean direction of every cluster and moves each pixel to the cluster of the largest dot
    product (the first of equal ones). A cluster without pixels has the zero vector as its direction, as in the
    release. The loop never waits for the GPU.

    Args:
        feature: (B, N, C) float, unit rows.
        label: (B, N) int64 in [0, num_clusters), where each pixel starts.
        valid: (B, N) bool; the other pixels move no cluster, and their result has no meaning.
        num_clusters: K.
        iterations: rounds, at least 0.

    Returns:
        (B, N) int64, the cluster of each pixel, in [0, num_clusters).
    """
    if feature.device.type == "cpu":
        label = label.clone()
        for rows, image_label, image_valid in zip(feature, label, valid, strict=True):
            if bool(image_valid.all()):
                _cluster_image(rows, image_label, num_clusters, iterations)
            else:
                kept = image_valid.nonzero().squeeze(1)
                image_label[kept] = _cluster_image(rows[kept], image_label[kept], num_clusters, iterations)
        return label
    return _cluster_batch(feature, label, valid, num_clusters, iterations)


def _cluster_batch(feature: Tensor, label: Tensor, valid: Tensor, num_clusters: int, iterations: int) -> Tensor:
    """Cluster all images at once, by products with the one-hot matrix of clusters: fastest on a GPU."""
    pull = valid[..., None].to(feature.dtype)
    member = feature.new_empty(*label.shape, num_clusters)  # (B, N, K)
    for _ in range(iterations):
        member.zero_().scatter_(2, label[..., None], pull)
        direction = F.normalize(member.transpose(1, 2) @ feature, dim=-1)  # (B, K, C)
        label = (feature @ direction.transpose(1, 2)).argmax(dim=-1)
    return label


def _cluster_image(feature: Tensor, label: Tensor, num_clusters: int, iterations: int) -> Tensor:
    """Cluster one image's (N, C) on the CPU; start from `label` (N,), overwrite it and return it.

    Each round reads a chunk of pixels into the cache once, assigns its pixels to clusters, and adds them to the sums
    for the next round. Two maxima over rows of pixels find the first of the largest similarities, in a fifth of the
    time of one argmax over columns of clusters.
    """
    number = -(-len(feature) * max(num_clusters, feature.shape[1]) // CHUNK_ELEMENTS) or 1
    chunks = list(zip(feature.chunk(number), label.chunk(number), strict=True))  # equal, so that none is mere overhead
    size = len(chunks[0][0])
    buffer = feature.new_empty(num_clusters * size)
    rank = torch.arange(num_clusters, 0, -1, dtype=feature.dtype)[:, None]  # (K, 1): the first cluster has the largest
    total = feature.new_zeros(num_clusters, feature.shape[1]).index_add_(0, label, feature)
    for left in reversed(range(iterations)):
        direction = F.normalize(total, dim=1)  # (K, C)
        total.zero_()
        for rows, part in chunks:
            similarity = buffer[: num_clusters * len(rows)].view(num_clusters, len(rows))  # (K, n)
            torch.mm(direction, rows.T, out=similarity)
            nearest = similarity.eq_(similarity.amax(dim=0)).mul_(rank).amax(dim=0)  # (n,)
            part.copy_(num_clusters - nearest.clamp_(min=1))  # where a feature is not finite, the last cluster
            if left:
                total.index_add_(0, part, rows)
    return label
