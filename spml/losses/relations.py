"""The four relations of SPML as losses of the table, and cross-entropy on the labels that feature affinity propagates.

The mathematics is in `spml.grouping`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from spml.config.kinds import number
from spml.config.settings import setting
from spml.grouping.memory import Prototypes
from spml.grouping.relations import AFFINITY_THRESHOLD, grouping_losses, nearest_label_set
from spml.losses.base import Inputs, Loss
from spml.losses.cross_entropy import cross_entropy

_WEIGHT, _CONCENTRATION, _COSINE = number(low=0), number(above=0, below=500), number(low=-1, below=1)
_WEIGHT_HELP, _CONCENTRATION_HELP = "weight in the sum", "k of exp(k cos)"
_THRESHOLD_HELP = "least cosine to the labelled segment that a segment takes its label from; -1: any will do"


@dataclass(frozen=True)
class Annotation:
    """Settings of semantic annotation."""

    weight: float = setting(1.0, _WEIGHT, _WEIGHT_HELP)
    concentration: float = setting(6.0, _CONCENTRATION, _CONCENTRATION_HELP)


@dataclass(frozen=True)
class Cooccurrence:
    """Settings of semantic co-occurrence."""

    weight: float = setting(1.0, _WEIGHT, _WEIGHT_HELP)
    concentration: float = setting(12.0, _CONCENTRATION, _CONCENTRATION_HELP)


@dataclass(frozen=True)
class Similarity:
    """Settings of low-level image similarity."""

    weight: float = setting(1.0, _WEIGHT, _WEIGHT_HELP)
    concentration: float = setting(16.0, _CONCENTRATION, _CONCENTRATION_HELP)


@dataclass(frozen=True)
class Affinity:
    """Settings of feature affinity."""

    weight: float = setting(1.0, _WEIGHT, _WEIGHT_HELP)
    concentration: float = setting(12.0, _CONCENTRATION, _CONCENTRATION_HELP)
    threshold: float = setting(AFFINITY_THRESHOLD, _COSINE, _THRESHOLD_HELP)


@dataclass(frozen=True)
class Propagated:
    """Settings of cross-entropy on propagated labels."""

    weight: float = setting(1.0, _WEIGHT, _WEIGHT_HELP)
    threshold: float = setting(-1.0, _COSINE, _THRESHOLD_HELP)


def _relation(name: str) -> Callable[[Inputs, Any], Tensor]:
    def loss(inputs: Inputs, settings: Any) -> Tensor:
        losses = grouping_losses(
            inputs.segments,
            inputs.tag,
            num_classes=inputs.tag.shape[1],
            concentration={name: settings.concentration},
            memory=inputs.bank,
            relations=[name],
            affinity_threshold=getattr(settings, "threshold", AFFINITY_THRESHOLD),
            exchange=inputs.exchange,
            gathered=inputs.gathered,
        )
        return losses[name]

    return loss


def propagated_label(inputs: Inputs, threshold: float, size: torch.Size) -> Tensor:
    """(B, h, w) int64: each pixel's label as feature affinity has it, 255 where its segment has none.

    Every segment takes the label of its nearest labelled segment of the same image. The release has nothing alike.
    """
    segments = inputs.segments
    label_set = nearest_label_set(Prototypes.of(segments, inputs.tag), inputs.tag.shape[1], threshold)  # (S, K)
    label = torch.where(label_set.any(dim=1), label_set.byte().argmax(dim=1), 255)  # (S,)
    annotation = F.interpolate(inputs.label[:, None].float(), size, mode="nearest").squeeze(1)  # (B, h, w)
    propagated = torch.full_like(annotation, 255, dtype=torch.int64)
    propagated[annotation != 255] = label[segments.index]
    return propagated


def _propagated(inputs: Inputs, settings: Propagated) -> Tensor:
    label = propagated_label(inputs, settings.threshold, inputs.embedding.shape[-2:])
    return cross_entropy(inputs.logit, label, inputs.exchange)


_GROUPS = ("embedding", "segments", "tag", "bank")
SEMANTIC_ANNOTATION = Loss(
    "labelled pixels to segments of the same label", Annotation, _GROUPS, _relation("semantic_annotation")
)
SEMANTIC_COOCCURRENCE = Loss(
    "pixels to segments of images that share a tag", Cooccurrence, _GROUPS, _relation("semantic_cooccurrence")
)
IMAGE_SIMILARITY = Loss(
    "pixels to segments of the same region of the over-segmentation", Similarity, _GROUPS, _relation("image_similarity")
)
FEATURE_AFFINITY = Loss(
    "as co-occurrence, by the label of each segment's nearest labelled segment",
    Affinity,
    _GROUPS,
    _relation("feature_affinity"),
)
PROPAGATED_CROSS_ENTROPY = Loss(
    "cross-entropy on the label of each segment's nearest labelled segment",
    Propagated,
    ("logit", "embedding", "segments", "label", "tag"),
    _propagated,
)
