"""Spherical k-means on pixel embeddings, started from a regular grid (SegSort, section 3.1)."""

import torch
import torch.nn.functional as F
from torch import Tensor


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
    product. A cluster without pixels keeps the zero vector as its direction, as in the release. Nothing in the
    loop waits for the device.

    Args:
        feature: (B, N, C) float, unit rows.
        label: (B, N) int64 in [0, num_clusters), where each pixel starts.
        valid: (B, N) bool; the other pixels pull no cluster, and what they get means nothing.
        num_clusters: K.
        iterations: rounds, at least 0.

    Returns:
        (B, N) int64, the cluster of each pixel, in [0, num_clusters).
    """
    weighted = feature * valid[..., None]
    for _ in range(iterations):
        member = F.one_hot(label, num_clusters).to(feature.dtype)  # (B, N, K)
        direction = F.normalize(member.transpose(1, 2) @ weighted, dim=-1)  # (B, K, C)
        label = (feature @ direction.transpose(1, 2)).argmax(dim=-1)
    return label
