"""Pseudo labels from sparse labels and segments (released as pseudo_denseposerw_crf)."""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from spml.data.dataset import EvaluationSample
from spml.data.samples import IGNORE
from spml.grouping import segment_by_kmeans
from spml.grouping.segments import Segments
from spml.inference.predictors import load_models
from spml.inference.whole_views import WholeViews, cut, eighth, unmirrored, working_size
from spml.models.layers import resize
from spml.propagate import retrieve
from spml.pseudo.base import (
    WALK_STEPS,
    Evidence,
    Labeller,
    Materials,
    Recipe,
    Source,
    by_class_maximum,
    classes_of,
)


@dataclass(frozen=True)
class PointLabeller(Labeller):
    """Sparse labels, such as DensePose's points: each pixel asks its nearest labelled segment, each segment its pixels.

    At half size it clusters segments within the labels. Each pixel takes the label of the labelled segment nearest to
    its embedding, and each segment takes the shares of these labels among its pixels. At 1/8 size each class is divided
    by its maximum. Pixels annotated 255 count as unlabelled in the walk and are 255 in the result.
    """

    views: WholeViews
    num_clusters: tuple[int, int]
    iterations: int
    num_classes: int
    reads_regions: ClassVar[bool] = True
    keeps_void: ClassVar[bool] = True

    @torch.no_grad()
    def __call__(self, read: EvaluationSample) -> Evidence | None:
        size = working_size(self.plan, read.image)
        half, embeddings = (max(1, size[0] // 2), max(1, size[1] // 2)), []
        for embedding, view in self.views.padded(read.image):
            # halved with its padding, and cut only then, as released
            padded_half = (max(1, embedding.shape[-2] // 2), max(1, embedding.shape[-1] // 2))
            view_half = (max(1, view[0] // 2), max(1, view[1] // 2))
            embeddings.append(resize(unmirrored(cut(resize(embedding, padded_half), view_half)), half))
        embedding = torch.cat(embeddings)  # (V, D, h / 2, w / 2)
        segments = self._segments(embedding[:1], read)
        if not (segments.prototype_semantic_label < self.num_classes).any():
            return None
        score = segment_shares(segments, self.num_classes)[segments.index].T.reshape(1, self.num_classes, *half)
        score = by_class_maximum(resize(score, eighth(size))[0], classes_of(read, self.num_classes))
        return Evidence(score, resize(embedding, eighth(size)))

    def _segments(self, embedding: Tensor, read: EvaluationSample) -> Segments:
        """The segments of the first view (1, D, h, w), split by the image's labels, which are resized to the view."""
        labels: list[Tensor | None] = []
        for label in (read.semantic, read.instance):
            if label is None:
                labels.append(None)
                continue
            resized = F.interpolate(label[None, None].float(), embedding.shape[-2:], mode="nearest")[0].long()
            labels.append(resized.to(embedding.device))
        semantic, instance = labels
        assert semantic is not None
        semantic = semantic.masked_fill(semantic == IGNORE, self.num_classes)
        return segment_by_kmeans(
            embedding, semantic, instance, num_clusters=self.num_clusters, iterations=self.iterations
        )


def segment_shares(segments: Segments, num_classes: int) -> Tensor:
    """(S, K): for each segment, the share of its pixels whose nearest labelled segment has a class. Rows sum to one."""
    labelled = segments.prototype_semantic_label < num_classes
    nearest, _ = retrieve(
        segments.embedding, segments.prototype[labelled], segments.prototype_semantic_label[labelled], 1
    )
    count = torch.bincount(segments.index * num_classes + nearest[:, 0], minlength=len(labelled) * num_classes)
    count = count.reshape(-1, num_classes).float()
    return count / count.sum(1, keepdim=True)


def build(materials: Materials) -> PointLabeller:
    """Build the source with the k-means of the config."""
    config, snapshot, device = materials.config, materials.snapshot, materials.device
    model, _ = load_models(config, snapshot, device, with_classifier=False, runtime=materials.runtime)
    grid, iterations = config.network.kmeans_num_clusters, int(config.network.kmeans_iterations)
    views = WholeViews(model, materials.plan, device)
    return PointLabeller(materials.plan, views, (int(grid[0]), int(grid[1])), iterations, materials.num_classes)


SOURCE = Source(
    "sparse labels: each segment by its pixels' nearest labelled segments",
    needs=("snapshot", "label"),
    recipe=Recipe((1.0,), False, WALK_STEPS, True),
    build=build,
)
