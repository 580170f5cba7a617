"""Scores of an image that are there before its strokes: put on its cells, averaged, corrected by the strokes."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from spml.propagate.spread import Field, correct

Scores = tuple[list[int], Tensor]  # ids of k classes, growing, and (k, h, w) float32 on the cells of a field


def on_grid(prior: np.ndarray, field: Field) -> Scores:
    """Probabilities (K, h, w) of the classes 0..K-1 at any size, on the cells."""
    plane = torch.from_numpy(np.ascontiguousarray(prior, np.float32)).to(field.hold.device)
    plane = F.interpolate(plane[None], field.size, mode="bilinear", align_corners=False)[0]
    return list(range(len(plane))), plane


def mean(one: Scores, other: Scores) -> Scores:
    """Of both, where a class that one does not know has 0."""
    ids = sorted({*one[0], *other[0]})
    total = one[1].new_zeros(len(ids), *one[1].shape[1:])
    for known, score in (one, other):
        total[[ids.index(index) for index in known]] += score / 2
    return ids, total


def corrected(begun: Scores, field: Field, feature: Tensor, cell: Tensor, label: Tensor) -> Scores:
    """Scores that an image's own strokes correct, also those of classes that were unknown so far.

    Args:
        begun: without the strokes.
        feature, cell: of the cells under strokes, as `correct` takes them.
        label: (n,) int64, ids of their classes.
    """
    ids = sorted({*begun[0], *label.tolist()})
    score = begun[1].new_zeros(len(ids), *begun[1].shape[1:])
    score[[ids.index(index) for index in begun[0]]] = begun[1]
    place = torch.tensor([ids.index(index) for index in label.tolist()], dtype=torch.int64, device=score.device)
    return ids, correct(field, score, feature, cell, place)
