"""Retrieval from very large memories by an inverted index of the optional `faiss`: faster, not always the nearest."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spml.errors import UserError
from spml.files import write_atomically

PROBED = 16  # one list in so many is searched for each query
TRAINING = 64  # prototypes a list that its centre is found from, at most
ADDED = 1 << 18  # prototypes that are put into the lists at a time


class ApproximateMemory:
    """A memory split into sqrt(M) lists. A query is compared with the prototypes of the nearest 1/16 of the lists.

    `benchmarks/retrieval.py --faiss` compares recall and time with the exact `retrieve`, which is the default.

    Args:
        memory: (M, C) float, M >= 1, rows as they are compared.
        memory_label: (M,) integer, any values.
        probed: one list in so many is searched; 1 searches all, which is exact.
        file: where the lists are kept: read if it is there, else made. It must be removed when the memory changes.

    Raises:
        UserError: where faiss is missing, or for an empty memory.
    """

    def __init__(self, memory: Tensor, memory_label: Tensor, probed: int = PROBED, file: Path | None = None) -> None:
        faiss = load_faiss()
        if len(memory) == 0:
            raise UserError("the memory holds no prototype: expected at least one to retrieve from, got 0")
        self.label, self.probed = memory_label, probed
        found = None if file is None else _read(faiss, file, memory)
        self.index: Any = _build(faiss, memory) if found is None else found
        if found is None and file is not None:
            write_atomically(file, lambda to: faiss.write_index(self.index, faiss.PyCallbackIOWriter(to.write)))
        self.index.nprobe = max(-(-self.index.nlist // probed), 1)

    def retrieve(self, query: Tensor, k: int = 20) -> tuple[Tensor, Tensor]:
        """As `spml.propagate.retrieve`, among the prototypes of the searched lists.

        If it finds fewer than k, it repeats the last one found; if it finds none, the first of the memory.
        """
        k = min(k, len(self.label))
        similarity, index = self.index.search(_rows(query), k)
        found = np.maximum((index >= 0).sum(1, keepdims=True), 1)
        column = np.minimum(np.arange(k), found - 1)
        row = np.maximum(np.take_along_axis(index, column, 1), 0)
        chosen = torch.from_numpy(row).to(self.label.device)
        value = torch.from_numpy(np.take_along_axis(similarity, column, 1)).to(query.device)
        return self.label[chosen], value


def _build(faiss: Any, memory: Tensor) -> Any:
    """The index of a memory (M, C): sqrt(M) centres by k-means, and the rows near each."""
    count, channels = memory.shape
    lists = max(int(min(count**0.5, count / 40)), 1)
    index = faiss.IndexIVFFlat(faiss.IndexFlatIP(channels), channels, lists, faiss.METRIC_INNER_PRODUCT)
    index.cp.max_points_per_centroid = TRAINING
    index.cp.seed = 0
    chosen = memory[:: max(count // (lists * TRAINING), 1)]  # faiss would copy all rows to choose some
    index.train(_rows(chosen))
    for rows in memory.split(ADDED):
        index.add(_rows(rows))
    return index


def _read(faiss: Any, file: Path, memory: Tensor) -> Any:
    """The index of a file, mapped into memory; None where there is none, or that of another memory."""
    if not file.is_file():
        return None
    try:
        index = faiss.read_index(str(file), faiss.IO_FLAG_MMAP | faiss.IO_FLAG_READ_ONLY)
    except RuntimeError as error:
        raise UserError(f"cannot read the index {file}: remove it, it is made again") from error
    return index if (index.ntotal, index.d) == tuple(memory.shape) else None


def _rows(rows: Tensor) -> np.ndarray:
    return np.ascontiguousarray(rows.detach().float().cpu().numpy())


def load_faiss() -> Any:
    """Import faiss. Raises UserError where it is missing."""
    try:
        import faiss
    except ImportError:
        raise UserError(
            "approximate retrieval needs the package faiss: install it by `pip install -e .[faiss]`"
        ) from None
    return faiss
