"""Retrieval from very large memories by an inverted index of the optional `faiss`: faster, not always the nearest."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from spml.errors import UserError

PROBED = 16  # one list in so many is searched for each query
TRAINING = 64  # prototypes a list that its centre is found from, at most


class ApproximateMemory:
    """A memory split into sqrt(M) lists. A query is compared with the prototypes of the nearest 1/16 of the lists.

    `benchmarks/retrieval.py --faiss` compares recall and time with the exact `retrieve`, which is the default.

    Args:
        memory: (M, C) float, M >= 1, rows as they are compared.
        memory_label: (M,) integer, any values.
        probed: one list in so many is searched; 1 searches all, which is exact.

    Raises:
        UserError: where faiss is missing, or for an empty memory.
    """

    def __init__(self, memory: Tensor, memory_label: Tensor, probed: int = PROBED) -> None:
        faiss = load_faiss()
        if len(memory) == 0:
            raise UserError("the memory holds no prototype: expected at least one to retrieve from, got 0")
        self.label, self.probed = memory_label, probed
        rows = np.ascontiguousarray(memory.detach().float().cpu().numpy())
        lists = max(int(min(len(rows) ** 0.5, len(rows) / 40)), 1)
        self.index = faiss.IndexIVFFlat(
            faiss.IndexFlatIP(rows.shape[1]), rows.shape[1], lists, faiss.METRIC_INNER_PRODUCT
        )
        self.index.cp.max_points_per_centroid = TRAINING
        self.index.cp.seed = 0
        self.index.train(rows)
        self.index.add(rows)
        self.index.nprobe = max(-(-lists // probed), 1)

    def retrieve(self, query: Tensor, k: int = 20) -> tuple[Tensor, Tensor]:
        """As `spml.propagate.retrieve`, among the prototypes of the searched lists.

        If it finds fewer than k, it repeats the last one found; if it finds none, the first of the memory.
        """
        k = min(k, len(self.label))
        similarity, index = self.index.search(np.ascontiguousarray(query.detach().float().cpu().numpy()), k)
        found = np.maximum((index >= 0).sum(1, keepdims=True), 1)
        column = np.minimum(np.arange(k), found - 1)
        row = np.maximum(np.take_along_axis(index, column, 1), 0)
        chosen = torch.from_numpy(row).to(self.label.device)
        value = torch.from_numpy(np.take_along_axis(similarity, column, 1)).to(query.device)
        return self.label[chosen], value


def load_faiss() -> Any:
    """Import faiss. Raises UserError where it is missing."""
    try:
        import faiss
    except ImportError:
        raise UserError(
            "approximate retrieval needs the package faiss: install it by `pip install -e .[faiss]`"
        ) from None
    return faiss
