"""Stage 1: the embedding under relations of pixels and segments, with a classifier beside it (SPML, section 3)."""

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spml.data.needs import Needs
from spml.grouping import MemoryBank, Prototypes, Segments, segment_by_kmeans
from spml.grouping.memory import Gathered
from spml.losses.propagated import nearest
from spml.models.classifier import SoftmaxClassifier
from spml.models.embedding import EmbeddingModel
from spml.tasks.base import photo
from spml.tasks.segmentation import SegmentationTask, StepInputs
from spml.visualize import draw_borders


class SpmlTask(SegmentationTask):
    """Segmentation whose losses also read segments: those of the batch, of all processes and of past steps.

    With `train.classifier_gradient` losses of the logits also move the embedding; in the release they do not.
    """

    name = "spml"
    help = "stage 1: the embedding under the relations between pixels and segments, with a classifier beside it"
    needs = Needs(instance=True)
    gives = SegmentationTask.gives | {"segments", "gathered", "bank"}

    def __init__(self, config: Any, embedding_model: EmbeddingModel, classifier: SoftmaxClassifier) -> None:
        self.reaches_embedding = bool(config.train.classifier_gradient)
        self.bank = MemoryBank(config.train.memory_bank_size)
        super().__init__(config, embedding_model, classifier)

    def losses(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        inputs = GroupedInputs(self, batch)
        terms = self.terms(inputs)
        if "bank" in self.reads:
            self.bank.append(inputs.segments, inputs.tag, inputs.gathered)
        return terms

    def segment(self, batch: Mapping[str, Any], embedding: Tensor) -> Segments:
        """Cluster the embedding (B, D, h, w) float32 and split it by the batch's labels, taken at its size."""
        network, size = self.config.network, embedding.shape[-2:]
        return segment_by_kmeans(
            embedding,
            nearest(batch["semantic_label"], size),
            nearest(batch["instance_label"], size),
            num_clusters=tuple(network.kmeans_num_clusters),
            iterations=network.kmeans_iterations,
            location=self.embedding_model.location(batch["image"], size),
        )

    def state(self) -> dict[str, Any]:
        """The memory bank, under the name that older snapshots use."""
        return {"memory": self.bank.state_dict()}

    def load_state(self, state: Mapping[str, Any], device: torch.device) -> None:
        self.bank.load_state_dict(state["memory"], device)

    def pictures(self, batch: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """The pictures of the segmentation, and the over-segmentation's borders."""
        regions = draw_borders(photo(self.config, batch), batch["instance_label"][0].cpu().numpy())
        return {"over-segmentation": regions, **super().pictures(batch)}


class GroupedInputs(StepInputs):
    """Adds the segments of the batch, the prototypes of all processes, and the memory bank."""

    task: SpmlTask

    @cached_property
    def segments(self) -> Segments:
        """The clusters of the batch, split by its labels."""
        return self.task.segment(self.batch, self.embedding)

    @cached_property
    def gathered(self) -> Gathered:
        """The prototypes of all processes, exchanged once a step."""
        return self.exchange.gather(Prototypes.of(self.segments, self.tag), len(self.tag))

    @property
    def bank(self) -> MemoryBank:
        """The segments of past steps."""
        return self.task.bank
