"""The four relations of SPML as entries of the table of losses; `spml.grouping` computes them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from spml.config.kinds import number
from spml.config.settings import setting
from spml.grouping.relations import AFFINITY_THRESHOLD, grouping_losses
from spml.losses.base import Inputs, Loss

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


def _relation(name: str) -> Callable[[Inputs, Any], Tensor]:
    def loss(inputs: Inputs, settings: Any) -> Tensor:
        segments = inputs.segments
        # DensePose adds colour to the location; its image similarity uses embeddings alone, as the release does.
        location = segments.embedding_with_location.shape[1] - segments.embedding.shape[1]
        losses = grouping_losses(
            segments,
            inputs.tag,
            num_classes=inputs.tag.shape[1],
            concentration={name: settings.concentration},
            background=inputs.background,
            memory=inputs.bank,
            relations=[name],
            similarity_with_location=location == 2,
            affinity_threshold=getattr(settings, "threshold", AFFINITY_THRESHOLD),
            exchange=inputs.exchange,
            gathered=inputs.gathered,
        )
        return losses[name]

    return loss


_GROUPS = ("embedding", "segments", "tag", "bank")  # the prototypes of all processes come with the bank
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
