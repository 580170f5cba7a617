"""Cross-entropy on labels propagated inside an image, from labelled segments to segments that resemble them."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from spml.config.kinds import number
from spml.config.settings import setting
from spml.grouping import Prototypes, Segments
from spml.grouping.relations import nearest_label_set
from spml.losses.base import Inputs, Loss
from spml.losses.cross_entropy import cross_entropy


def propagated_label(
    segments: Segments, semantic_tag: Tensor, semantic_label: Tensor, num_classes: int, threshold: float
) -> Tensor:
    """Give every pixel the label that feature affinity uses: that of the nearest labelled segment of its image.

    "Nearest" compares embeddings with location. The release has no such loss.

    Args:
        segments: of a batch of B images of h x w pixels.
        semantic_tag: (B, any) bool; only its number of rows matters.
        semantic_label: (B, h, w) int64, the annotation that split the segments; 255 belongs to no segment.
        num_classes: labels of this value and above are unlabelled.
        threshold: least cosine to the labelled segment, in [-1, 1]; -1 accepts any.

    Returns:
        (B, h, w) int64: 255 where no segment is near enough, and where the annotation is 255.
    """
    label_set = nearest_label_set(Prototypes.of(segments, semantic_tag), num_classes, threshold)  # (S, K)
    label = torch.where(label_set.any(dim=1), label_set.byte().argmax(dim=1), 255)  # (S,)
    propagated = torch.full_like(semantic_label, 255)
    propagated[semantic_label != 255] = label[segments.index]
    return propagated


def nearest(label: Tensor, size: Sequence[int]) -> Tensor:
    """Resize (B, H, W) int64 labels to (B, h, w) by the nearest neighbour."""
    return F.interpolate(label[:, None].float(), (int(size[0]), int(size[1])), mode="nearest").squeeze(1).long()


@dataclass(frozen=True)
class Propagated:
    """Settings."""

    weight: float = setting(1.0, number(low=0), "weight in the sum")
    threshold: float = setting(
        -1.0, number(low=-1, below=1), "least cosine to the labelled segment whose label is taken; -1: any will do"
    )


def _loss(inputs: Inputs, settings: Propagated) -> Tensor:
    logit = inputs.logit
    label = nearest(inputs.label, logit.shape[-2:])
    target = propagated_label(inputs.segments, inputs.tag, label, logit.shape[1], settings.threshold)
    return cross_entropy(logit, target, inputs.exchange)


LOSS = Loss(
    "cross-entropy on the label of each segment's nearest labelled segment",
    Propagated,
    ("logit", "label", "tag", "segments"),
    _loss,
)
