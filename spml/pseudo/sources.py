"""What is known of a training image before it spreads: scores from CAMs, the classifier, retrieval or points.

Each source follows one procedure of the release (see `spml.pseudo.label`). Where the release sends whole padded
images through the network, so do these; retrieval slides crops.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spml.data.dataset import EvaluationSample
from spml.data.lists import IGNORE
from spml.data.pickled import read_cam_file
from spml.errors import UserError
from spml.grouping import segment_by_kmeans
from spml.grouping.segments import Segments
from spml.inference.predictors import RetrievalPredictor, predict_image
from spml.inference.views import ViewPlan
from spml.inference.whole_views import STRIDE, WholeViews, cut, eighth, resize, unmirrored, working_size
from spml.propagate import retrieve
from spml.propagate.cam import cam_scores

LEAST_SHARE = 0.15  # retrieval: a class that is present, but nowhere strong, is not blown up beyond this


class Evidence(NamedTuple):
    """Scores of the classes and, for the walk, the embeddings of the views: the mirror image's mirrored back."""

    score: Tensor  # (K, h, w) float: at 1/8 of the image's size, or for retrieval at its whole size
    embedding: Tensor | None  # (V, D, h / 8, w / 8) float, of any length


class Source(Protocol):
    """Where pseudo labels come from."""

    needs_label: ClassVar[bool]  # of the image: its classes, or more
    keeps_void: ClassVar[bool]  # pixels annotated 255 stay 255

    @property
    def plan(self) -> ViewPlan: ...

    def __call__(self, read: EvaluationSample) -> Evidence | None:
        """What is known of an image; None: nothing."""


@dataclass(frozen=True)
class CamSource:
    """CAMs and the background they leave, as the release: (1 - max)^6, at 1/8 size. Labels play no part."""

    views: WholeViews | None  # None: no walk, no network
    plan: ViewPlan
    num_classes: int
    cam_dir: Path
    needs_label: ClassVar[bool] = False
    keeps_void: ClassVar[bool] = False

    def __call__(self, read: EvaluationSample) -> Evidence:
        path, size = self.cam_dir / f"{read.name}.npy", (read.image.shape[1], read.image.shape[2])
        try:
            score = cam_scores(read_cam_file(path), self.num_classes, size)
        except ValueError as error:
            raise UserError(f"{path}: {error}") from error
        score = resize(score[None], working_size(self.plan, read.image))
        if min(score.shape[-2:]) >= STRIDE:
            # The release hands the factor, not the size: pixel i of the small map stands for 8 i to 8 i + 7 exactly,
            # where those of the embedding are spread over the whole image.
            score = F.interpolate(score, scale_factor=1 / STRIDE, mode="bilinear", align_corners=False)
        score = resize(score, eighth(working_size(self.plan, read.image)))[0]
        if self.views is None:
            return Evidence(score, None)
        return Evidence(score.to(self.views.device), self.views.at_eighth(read.image))


@dataclass(frozen=True)
class SoftmaxSource:
    """The classifier's probabilities at 1/8 size, each class divided by its maximum, absent classes 0.

    Averaged over views are the probabilities, or for a walk of at most one step the logits, as released.
    """

    views: WholeViews
    classifier: nn.Module
    num_classes: int
    walk_steps: int
    needs_label: ClassVar[bool] = True
    keeps_void: ClassVar[bool] = False

    @property
    def plan(self) -> ViewPlan:
        return self.views.plan

    @torch.no_grad()
    def __call__(self, read: EvaluationSample) -> Evidence | None:
        present = classes_of(read, self.num_classes)
        if not present.any():
            return None
        size = eighth(working_size(self.plan, read.image))
        embeddings, scores = [], []
        for embedding, view in self.views.padded(read.image):
            logits = resize(unmirrored(cut(self.classifier(embedding), view)), size)  # (1 or 2, K, h / 8, w / 8)
            scores.append(logits.softmax(1) if self.walk_steps > 1 else logits)
            if self.walk_steps:
                embeddings.append(resize(unmirrored(cut(embedding, view)), size))
        score = torch.cat(scores).mean(0)
        score = by_class_maximum(score if self.walk_steps > 1 else score.softmax(0), present)
        return Evidence(score, torch.cat(embeddings) if embeddings else None)


@dataclass(frozen=True)
class RetrievalSource:
    """The share of each class among the nearest prototypes, averaged over the views, at the image's size.

    A class present is divided by its maximum or 0.15, whichever is larger; a class absent stays as it is.
    """

    predictor: RetrievalPredictor
    views: WholeViews | None  # None: no walk
    needs_label: ClassVar[bool] = True
    keeps_void: ClassVar[bool] = False

    @property
    def plan(self) -> ViewPlan:
        return self.predictor.plan

    def __call__(self, read: EvaluationSample) -> Evidence:
        share, _ = predict_image(read.image, self.predictor)  # (K, h, w)
        present = classes_of(read, len(share)).to(share.device)
        maximum = share.flatten(1).amax(1).clamp(min=LEAST_SHARE).masked_fill(~present, 1)
        return Evidence(
            share / maximum[:, None, None], None if self.views is None else self.views.at_eighth(read.image)
        )


@dataclass(frozen=True)
class PointSource:
    """Sparse labels, such as DensePose's points: each segment by its pixels' nearest labelled segments.

    At half size, segments are clustered within the labels; each pixel takes the label of the labelled segment that its
    embedding is nearest to, and each segment the share of the labels among its pixels. At 1/8 size, each class is
    divided by its maximum. Pixels annotated 255 count as unlabelled before the walk and are 255 after it.
    """

    views: WholeViews
    num_clusters: tuple[int, int]
    iterations: int
    num_classes: int
    needs_label: ClassVar[bool] = True
    keeps_void: ClassVar[bool] = True

    @property
    def plan(self) -> ViewPlan:
        return self.views.plan

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
        """The segments of the first view, (1, D, h, w), within the labels of the image, which are resized to it."""
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


def by_class_maximum(score: Tensor, present: Tensor) -> Tensor:
    """(K, h, w) scores >= 0, each class divided by its maximum; 0 where it is absent or has no score at all."""
    maximum = score.flatten(1).amax(1)  # (K,)
    known = present.to(score.device) & (maximum > 0)
    return torch.where(known[:, None, None], score / maximum[:, None, None], 0)


def classes_of(read: EvaluationSample, num_classes: int) -> Tensor:
    """(K,) bool: the classes that stand in the image's label."""
    assert read.semantic is not None
    return torch.bincount(read.semantic.flatten(), minlength=256)[:num_classes] > 0
