"""The softmax classifier on top of the embedding. Stage 1 trains both; stage 2 trains the classifier alone."""

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from spml.models.layers import convolution, initialise


class SoftmaxClassifier(nn.Module):
    """3x3 to twice the width, BN, ReLU, dropout, 1x1 to the classes, on the L2-normalised embedding."""

    def __init__(self, embedding_dim: int, num_classes: int, dropout: float = 0.75) -> None:
        super().__init__()
        self.semantic_classifier = nn.Sequential(
            convolution(embedding_dim, 2 * embedding_dim),
            nn.BatchNorm2d(2 * embedding_dim),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            convolution(2 * embedding_dim, num_classes, kernel=1, bias=True),
        )
        initialise(self)

    def forward(self, embedding: Tensor) -> Tensor:
        """Logits (B, K, h, w) of a raw embedding (B, D, h, w) float, which it normalises."""
        return self.semantic_classifier(F.normalize(embedding, dim=1))


def build_classifier(config: Any, dropout: float = 0.75) -> SoftmaxClassifier:
    """The classifier of a config: reads network.embedding_dim and dataset.num_classes.

    Args:
        config: as `spml.config.load_config` returns it.
        dropout: share of features dropped in training, in [0, 1): 0.75 in stage 1, 0.65 in stage 2, as released.
    """
    return SoftmaxClassifier(int(config.network.embedding_dim), int(config.dataset.num_classes), dropout)
