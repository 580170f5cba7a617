"""Stage 2: the softmax classifier on a frozen embedding (SPML, section 4)."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from spml.losses.cross_entropy import cross_entropy


class ClassifierTask(nn.Module):
    """Batch in, cross-entropy out; the embedding network is in eval mode and gets no gradient."""

    def __init__(self, config: Any, embedding_model: nn.Module, classifier: nn.Module) -> None:
        super().__init__()
        self.config, self.classifier = config, classifier
        self.embedding_model = embedding_model.requires_grad_(False)
        self.trained = [classifier]
        self.weights = {"cross_entropy": 1.0}

    def train(self, mode: bool = True) -> "ClassifierTask":
        """Set the mode of the classifier alone."""
        super().train(mode)
        self.embedding_model.eval()
        return self

    def forward(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """Return {"cross_entropy": ...}, the mean over labelled pixels."""
        image = batch["image"]  # (B, 3, H, W)
        with torch.autocast(image.device.type, torch.bfloat16, enabled=self.config.train.amp == "bf16"):
            with torch.no_grad():
                embedding = self.embedding_model(image)  # (B, D, h, w)
            logit = self.classifier(embedding)
        return {"cross_entropy": cross_entropy(logit, batch["semantic_label"])}

    def extra_state(self) -> dict[str, Any]:
        """Return what a resumed run needs beside models and optimizer: nothing."""
        return {}

    def load_extra_state(self, state: Mapping[str, Any], device: torch.device) -> None:
        """Take back `extra_state()`."""
