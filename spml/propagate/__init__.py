"""Ways to propagate labels: retrieval from a memory, a random walk, CAMs, a dense CRF."""

from spml.propagate.crf import DenseCRF
from spml.propagate.random_walk import random_walk
from spml.propagate.retrieval import label_share, majority_label, retrieve

__all__ = ["DenseCRF", "label_share", "majority_label", "random_walk", "retrieve"]
