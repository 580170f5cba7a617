"""Stage 2: the softmax classifier on a frozen embedding (SPML, section 4)."""

from typing import Any

import torch
from torch import Tensor, nn

from spml.data.needs import Needs
from spml.errors import UserError
from spml.models import build_classifier, build_embedding_model, load_pretrained
from spml.models.classifier import SoftmaxClassifier
from spml.models.embedding import EmbeddingModel
from spml.tasks.segmentation import SegmentationTask

DROPOUT = 0.65  # as released


class ClassifierTask(SegmentationTask):
    """Cross-entropy of the classifier; the embedding network is in eval mode and gets no gradient.

    It ignores the config's losses: they are those of stage 1.
    """

    name = "classifier"
    help = "stage 2: the softmax classifier on the frozen embedding of network.pretrained"
    needs = Needs(scale=(0.5, 2.0), grey=0.3, blur=0.5)
    reaches_embedding = False

    def __init__(self, config: Any, embedding_model: EmbeddingModel, classifier: SoftmaxClassifier) -> None:
        super().__init__(config, embedding_model, classifier, {"cross_entropy": {"weight": 1.0}})

    @classmethod
    def from_config(cls, config: Any) -> "ClassifierTask":
        """Build both networks, the embedding from the snapshot `network.pretrained`."""
        if not config.network.pretrained:
            raise UserError("network.pretrained: stage 2 needs the snapshot of stage 1, got nothing")
        model = build_embedding_model(config)
        loaded = load_pretrained(config.network.pretrained, model)
        task = cls(config, model, build_classifier(config, DROPOUT))
        task.notes.append(loaded)
        return task

    @property
    def trained(self) -> list[nn.Module]:
        return [self.classifier]

    def train(self, mode: bool = True) -> "ClassifierTask":
        """Set the mode of the classifier alone."""
        super().train(mode)
        self.embedding_model.eval()
        return self

    def embed(self, image: Tensor) -> Tensor:
        with torch.no_grad():
            return super().embed(image)

    def check_batch(self, images: int) -> None:
        """Accept any size: the frozen network needs no batch statistics."""
