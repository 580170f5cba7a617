"""Segments of whole test images: the stitched embedding, clustered without any label."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from spml.data.samples import IGNORE
from spml.grouping import segment_by_kmeans
from spml.inference.views import ViewPlan, slide


@dataclass(frozen=True)
class Segmenter:
    """Clusters the views of an image by k-means on their embeddings.

    Args:
        model: image and size to raw embedding, as EmbeddingModel; in eval mode, on `device`.
        plan: its crop size and stride.
        num_clusters, iterations: of k-means.
    """

    model: Callable[[Tensor, tuple[int, int]], Tensor]
    plan: ViewPlan
    num_clusters: tuple[int, int]
    iterations: int
    device: torch.device

    @classmethod
    def from_config(cls, config: Any, model: torch.nn.Module, plan: ViewPlan, device: torch.device) -> "Segmenter":
        """With the k-means of the `network` section of a config."""
        grid = config.network.kmeans_num_clusters
        return cls(model, plan, (int(grid[0]), int(grid[1])), int(config.network.kmeans_iterations), device)

    @torch.no_grad()
    def __call__(self, views: Tensor, keep_padding: bool) -> tuple[Tensor, Tensor]:
        """The segments of (B, 3, h, w), normalised images: index (B, h, w) in [0, S) and prototype (S, D).

        Embeddings are normalised before the average over crops. `keep_padding`: the grid that k-means starts from and
        the location features span the padded image, whose padding is then ignored; the release does so where it fills
        a memory and at a single scale, and not where it averages scales. Images are clustered one by one, as
        k-means needs most of the memory.
        """
        height, width = views.shape[-2:]
        embedding = slide(views, self.plan.crop_size, self.plan.stride, self._embed, self.device)  # (B, D, H, W)
        if not keep_padding:
            embedding = embedding[..., :height, :width]
        label = torch.full((1, *embedding.shape[-2:]), IGNORE, device=self.device)
        label[:, :height, :width] = 0
        indices, prototypes, count = [], [], 0
        for image in embedding.split(1):
            segments = segment_by_kmeans(
                image, label, num_clusters=self.num_clusters, iterations=self.iterations, ignore_index=IGNORE
            )
            indices.append(segments.index.reshape(height, width) + count)
            prototypes.append(segments.prototype)
            count += len(segments.prototype)
        return torch.stack(indices), torch.cat(prototypes)

    def _embed(self, crop: Tensor) -> Tensor:
        return F.normalize(self.model(crop, (crop.shape[-2], crop.shape[-1])), dim=1)
