"""The four relations between pixels and segments (SPML, section 3.2) and the loss under each of them."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from spml.grouping.contrast import Relation, pixel_to_segment_loss
from spml.grouping.memory import ALONE, Exchange, Gathered, MemoryBank, Prototypes
from spml.grouping.segments import Segments

RELATIONS = ("semantic_annotation", "semantic_cooccurrence", "image_similarity", "feature_affinity")
AFFINITY_THRESHOLD = 0.95  # feature affinity: least cosine to the labelled segment whose label is taken, as released


def same_label(label: Tensor, prototype_label: Tensor, num_classes: int) -> Relation:
    """Semantic annotation: labelled pixels against labelled segments, positive = the same label.

    Args:
        label: (N,) int64 in [0, num_classes): labelled pixels only.
        prototype_label: (P,) int64; segments of num_classes and above are unlabelled and out of scope.
    """
    classes = torch.arange(num_classes, device=label.device)[:, None]  # (K, 1)
    positive = classes == prototype_label
    return Relation(label, positive, ~positive & (prototype_label < num_classes))


def shared_tag(group: Tensor, group_tag: Tensor, prototype_tag: Tensor) -> Relation:
    """Semantic co-occurrence and feature affinity: positive = the sets share an element, negative = they do not.

    An empty set is negative to everything, itself included.

    Args:
        group: (N,) int64 in [0, G).
        group_tag: (G, K) bool, the set of each group of pixels.
        prototype_tag: (P, K) bool, the set of each segment.
    """
    positive = group_tag.float() @ prototype_tag.float().T > 0
    return Relation(group, positive, ~positive)


def same_region(segments: Segments) -> Relation:
    """Low-level image similarity: inside each image, positive = the same region of the over-segmentation."""
    image, region = segments.prototype_batch_index, segments.prototype_instance_label  # (S,)
    regions, group = torch.unique(torch.stack([image, region], dim=1), dim=0, return_inverse=True)  # (G, 2), (S,)
    positive = torch.arange(len(regions), device=image.device)[:, None] == group
    same_image = regions[:, :1] == image
    return Relation(group[segments.index], positive, same_image & ~positive)


@torch.no_grad()
def nearest_label_set(rows: Prototypes, num_classes: int, threshold: float = AFFINITY_THRESHOLD) -> Tensor:
    """Return (P, num_classes) bool: the label of the nearest labelled segment of the same image, as a set.

    "Nearest" means the largest dot product of prototypes with location; a labelled segment is its own nearest. The set
    is empty where no labelled segment of the image reaches `threshold`, in [-1, 1]; at -1 any segment does.
    """
    labelled = (rows.semantic_label < num_classes).nonzero().squeeze(1)  # (L,)
    label_set = torch.zeros(len(rows.semantic_label), num_classes, dtype=torch.bool, device=labelled.device)
    if len(labelled) == 0:
        return label_set
    similarity = rows.prototype_with_location @ rows.prototype_with_location[labelled].T  # (P, L)
    similarity[rows.batch_index[:, None] != rows.batch_index[labelled]] = -torch.inf
    best, nearest = similarity.max(dim=1)
    found = torch.isfinite(best) & (best >= threshold)
    label_set[found, rows.semantic_label[labelled[nearest[found]]]] = True
    return label_set


def grouping_losses(
    segments: Segments,
    semantic_tag: Tensor,
    *,
    num_classes: int,
    concentration: Mapping[str, float],
    background: int | None = 0,
    memory: MemoryBank | None = None,
    relations: Sequence[str] = RELATIONS,
    similarity_with_location: bool = True,
    affinity_threshold: float = AFFINITY_THRESHOLD,
    exchange: Exchange = ALONE,
    gathered: Gathered | None = None,
    backend: str = "auto",
) -> dict[str, Tensor]:
    """Compute the contrastive loss of each relation in `relations`: unweighted scalars.

    Means are over the pixels of all processes of `exchange`; each process returns its own pixels' share, so that the
    sum over processes is the loss. `semantic_annotation`, `semantic_cooccurrence` and `feature_affinity` see the
    segments of the whole batch and of the memory; `image_similarity` is a mean over pixels, then over images.

    Args:
        segments: of the batch of this process.
        semantic_tag: (B, num_classes) bool, the classes in each whole image.
        num_classes: labels of this value and above are unlabelled; `semantic_annotation` leaves them out, the other
            relations use them.
        concentration: k of each relation, by name.
        background: the column of `semantic_tag` that counts as no tag; None: every class counts.
        memory: segments of past steps, without gradient.
        relations: names from RELATIONS.
        similarity_with_location: False for DensePose, whose image similarity is on embeddings without location.
        affinity_threshold: feature affinity: see `nearest_label_set`.
        exchange: the other processes of a distributed run.
        gathered: the result of `exchange.gather` for these segments, if the caller has it (the memory bank uses it).
        backend: see `pixel_to_segment_loss`.

    Raises:
        ValueError: an unknown relation.
    """
    unknown = set(relations) - set(RELATIONS)
    if unknown:
        raise ValueError(f"relations: expected names out of {RELATIONS}, got {sorted(unknown)}")
    semantic_tag = semantic_tag.bool()
    step = gathered or exchange.gather(Prototypes.of(segments, semantic_tag), len(semantic_tag))
    rows = step.rows
    if memory is not None and len(memory):
        rows = Prototypes.concatenate([rows, *memory.prototypes(step.images)])
    own, learned = segments.index + step.first, len(step.rows.prototype)

    def loss(pixels: Tensor | slice, relation: Relation, name: str) -> Tensor:
        pixel = segments.embedding[pixels]
        k = concentration[name]
        total = pixel_to_segment_loss(
            pixel, rows.prototype, own[pixels], relation, k, reduction="sum", backend=backend, learned=learned
        )
        return total / exchange.total(total.new_tensor(len(pixel))).clamp(min=1)

    losses = {}
    everything = slice(None)
    if "semantic_annotation" in relations:
        labelled = segments.semantic_label < num_classes
        relation = same_label(segments.semantic_label[labelled], rows.semantic_label, num_classes)
        losses["semantic_annotation"] = loss(labelled, relation, "semantic_annotation")
    if "semantic_cooccurrence" in relations:
        tags = (_without(tag, background) for tag in (semantic_tag, rows.semantic_tag))
        relation = shared_tag(segments.batch_index, *tags)
        losses["semantic_cooccurrence"] = loss(everything, relation, "semantic_cooccurrence")
    if "image_similarity" in relations:
        losses["image_similarity"] = _image_similarity(
            segments, concentration["image_similarity"], similarity_with_location, exchange, backend
        )
    if "feature_affinity" in relations:
        label_set = nearest_label_set(rows, num_classes, affinity_threshold)
        label_set[~label_set.any(dim=1)] = True  # no labelled segment near: it may be anything
        sets, group = torch.unique(label_set, dim=0, return_inverse=True)
        relation = shared_tag(group[own], sets, label_set)
        losses["feature_affinity"] = loss(everything, relation, "feature_affinity")
    return losses


def _without(tag: Tensor, column: int | None) -> Tensor:
    """The tags (.., K) bool less one column, or all of them."""
    return tag if column is None else torch.cat([tag[:, :column], tag[:, column + 1 :]], dim=1)


def _image_similarity(
    segments: Segments, concentration: float, with_location: bool, exchange: Exchange, backend: str
) -> Tensor:
    """Mean over the pixels of each image, then over the images that have any; nothing leaves the process."""
    pixel = segments.embedding_with_location if with_location else segments.embedding
    prototype = segments.prototype_with_location if with_location else segments.prototype
    size = torch.bincount(segments.batch_index)  # (B,) pixels of each image
    images = exchange.total((size > 0).sum()).clamp(min=1)
    weight = 1 / (size[segments.batch_index] * images)
    relation = same_region(segments)
    return pixel_to_segment_loss(
        pixel, prototype, segments.index, relation, concentration, reduction="sum", backend=backend, weight=weight
    )
