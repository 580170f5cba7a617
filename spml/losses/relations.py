"""The four relations between pixels and segments as losses (SPML, section 3.2); their mathematics is in `grouping`."""

from dataclasses import dataclass

import torch
from torch import Tensor

from spml.config.kinds import number
from spml.config.settings import setting
from spml.grouping import grouping_losses
from spml.grouping.relations import AFFINITY_THRESHOLD
from spml.losses.base import Inputs, Loss


def object_tag(tag: Tensor, background: int | None) -> Tensor:
    """(B, K) bool tags as `grouping_losses` takes them: the first column, the background's, stands for no object.

    Where the background is another class, or none, a column is put in front: (B, 1 + K).
    """
    if background == 0:
        return tag
    objects = tag.clone()
    if background is not None:
        objects[:, background] = False
    return torch.cat([torch.zeros_like(tag[:, :1]), objects], dim=1)


def _relation(name: str, help: str, settings: type, inputs: tuple[str, ...]) -> Loss:
    def function(inputs: Inputs, settings: AnnotationSettings) -> Tensor:
        segments = inputs.segments
        # DensePose has colour beside the location; its image similarity is on embeddings alone, as released.
        location = segments.embedding_with_location.shape[1] - segments.embedding.shape[1]
        return grouping_losses(
            segments,
            object_tag(inputs.tag, inputs.background),
            num_classes=inputs.tag.shape[1],
            concentration={name: settings.concentration},
            memory=inputs.bank,
            relations=(name,),
            similarity_with_location=location == 2,
            affinity_threshold=getattr(settings, "threshold", AFFINITY_THRESHOLD),
            exchange=inputs.exchange,
            gathered=inputs.gathered,
        )[name]

    return Loss(help, settings, inputs, function)


_CONCENTRATION = number(above=0, below=500), "k of exp(k cos)"
_WEIGHT = number(low=0), "weight in the sum"


@dataclass(frozen=True)
class AnnotationSettings:
    """The config's `losses.semantic_annotation`."""

    weight: float = setting(1.0, *_WEIGHT)
    concentration: float = setting(6.0, *_CONCENTRATION)


@dataclass(frozen=True)
class CooccurrenceSettings:
    """The config's `losses.semantic_cooccurrence`."""

    weight: float = setting(0.5, *_WEIGHT)
    concentration: float = setting(12.0, *_CONCENTRATION)


@dataclass(frozen=True)
class SimilaritySettings:
    """The config's `losses.image_similarity`."""

    weight: float = setting(0.1, *_WEIGHT)
    concentration: float = setting(16.0, *_CONCENTRATION)


@dataclass(frozen=True)
class AffinitySettings:
    """The config's `losses.feature_affinity`."""

    weight: float = setting(0.5, *_WEIGHT)
    concentration: float = setting(6.0, *_CONCENTRATION)
    threshold: float = setting(
        AFFINITY_THRESHOLD, number(low=-1, below=1), "least cosine to the labelled segment whose label is taken"
    )


_INPUTS = ("segments", "tag", "bank")
RELATIONS = {
    "semantic_annotation": _relation(
        "semantic_annotation", "pixels are pulled to segments of their label", AnnotationSettings, _INPUTS
    ),
    "semantic_cooccurrence": _relation(
        "semantic_cooccurrence", "pixels are pulled to segments of images that share a tag", CooccurrenceSettings, _INPUTS
    ),
    "image_similarity": _relation(
        "image_similarity",
        "pixels are pulled to segments of their region of the over-segmentation",
        SimilaritySettings,
        ("segments",),
    ),
    "feature_affinity": _relation(
        "feature_affinity", "pixels are pulled to segments whose nearest label is theirs", AffinitySettings, _INPUTS
    ),
}
