"""Stage 1: the embedding under the four relations, with a classifier beside it (SPML, sections 3.2 and 4)."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spml.engine.distributed import exchange
from spml.grouping import MemoryBank, Prototypes, Segments, grouping_losses, segment_by_kmeans
from spml.grouping.relations import nearest_label_set
from spml.losses.cross_entropy import cross_entropy
from spml.models.classifier import SoftmaxClassifier
from spml.models.embedding import EmbeddingModel

SHORT_NAMES = {
    "semantic_annotation": "sem_ann",
    "semantic_cooccurrence": "sem_occ",
    "image_similarity": "img_sim",
    "feature_affinity": "feat_aff",
}


class EmbeddingTask(nn.Module):
    """Batch in, named raw losses out: everything of a stage-1 step but the update."""

    def __init__(self, config: Any, embedding_model: EmbeddingModel, classifier: SoftmaxClassifier) -> None:
        super().__init__()
        self.config = config
        self.embedding_model: EmbeddingModel = embedding_model
        self.classifier: SoftmaxClassifier = classifier
        train = config.train
        self.relations = [name for name, s in SHORT_NAMES.items() if train[f"{s}_loss_types"] != "none"]
        self.trained = [embedding_model, classifier]
        if not self.relations and not train.classifier_gradient:  # nothing moves the embedding, so nobody waits for it
            self.trained = [classifier]
            embedding_model.requires_grad_(False)
        self.concentration = {name: train[f"{SHORT_NAMES[name]}_concentration"] for name in self.relations}
        self.weights = {name: train[f"{SHORT_NAMES[name]}_loss_weight"] for name in self.relations}
        weight = train.cross_entropy_weight
        self.weights["cross_entropy"] = train.sem_ann_loss_weight if weight is None else weight
        if train.lent_cross_entropy_weight:
            self.weights["lent_cross_entropy"] = train.lent_cross_entropy_weight
        self.memory = MemoryBank(train.memory_bank_size)

    def forward(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """Return each term of the loss, raw; their sum, weighted by `self.weights`, is what training minimises."""
        config, image = self.config, batch["image"]  # (B, 3, H, W)
        with torch.autocast(image.device.type, torch.bfloat16, enabled=config.train.amp == "bf16"):
            embedding = self.embedding_model(image)  # (B, D, h, w)
            features = embedding if config.train.classifier_gradient else embedding.detach()
            logit = self.classifier(features)  # (B, K, h, w)
        losses: dict[str, Tensor] = {}
        if self.relations:
            segments = self.segment(batch, embedding.float())
            tag = batch["semantic_tag"]  # (B, K)
            gathered = exchange().gather(Prototypes.of(segments, tag), len(tag))
            losses = grouping_losses(
                segments,
                tag,
                num_classes=config.dataset.num_classes,
                concentration=self.concentration,
                memory=self.memory,
                relations=self.relations,
                similarity_with_location=config.dataset.dataset != "Densepose",
                affinity_threshold=config.train.feat_aff_threshold,
                exchange=exchange(),
                gathered=gathered,
            )
            self.memory.append(segments, tag, gathered)
            if "lent_cross_entropy" in self.weights:
                lent = self.lent_label(batch, segments, embedding.shape[-2:])  # (B, h, w)
                losses["lent_cross_entropy"] = cross_entropy(logit, lent)
        losses["cross_entropy"] = cross_entropy(logit, batch["semantic_label"])
        return losses

    def segment(self, batch: Mapping[str, Any], embedding: Tensor) -> Segments:
        """Cluster the embedding (B, D, h, w) and split it by the batch's labels, taken at its size."""
        network, size = self.config.network, embedding.shape[-2:]
        return segment_by_kmeans(
            embedding,
            nearest(batch["semantic_label"], size),
            nearest(batch["instance_label"], size),
            num_clusters=tuple(network.kmeans_num_clusters),
            iterations=network.kmeans_iterations,
            location=self.embedding_model.location(batch["image"], size),
        )

    def lent_label(self, batch: Mapping[str, Any], segments: Segments, size: torch.Size) -> Tensor:
        """Return (B, h, w) int64: each pixel's label as feature affinity has it, 255 where no segment lends one.

        Every segment takes the label of its nearest labelled segment of the same image. The release has nothing alike.
        """
        num_classes = self.config.dataset.num_classes
        rows = Prototypes.of(segments, batch["semantic_tag"])
        label_set = nearest_label_set(rows, num_classes, self.config.train.feat_aff_threshold)  # (S, K)
        label = torch.where(label_set.any(dim=1), label_set.byte().argmax(dim=1), 255)  # (S,)
        annotation = nearest(batch["semantic_label"], size)
        lent = torch.full_like(annotation, 255)
        lent[annotation != 255] = label[segments.index]
        return lent

    def extra_state(self) -> dict[str, Any]:
        """Return what a resumed run needs beside models and optimizer."""
        return {"memory": self.memory.state_dict()}

    def load_extra_state(self, state: Mapping[str, Any], device: torch.device) -> None:
        """Take back `extra_state()`."""
        self.memory.load_state_dict(state["memory"], device)


def nearest(label: Tensor, size: tuple[int, ...] | torch.Size) -> Tensor:
    """Resize (B, H, W) int64 labels to (B, h, w) by the nearest neighbour."""
    return F.interpolate(label[:, None].float(), size, mode="nearest").squeeze(1).long()
