"""Pseudo labels spread at once from the weak labels by frozen features; see `spml.propagate.spread`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from spml.data.dataset import EvaluationSample, as_unlabelled
from spml.data.samples import Sample, read_sample_files
from spml.inference.features import Extractor
from spml.inference.loading import load
from spml.inference.spread import Spreader
from spml.models.pretrained import PACKAGE
from spml.progress import progress
from spml.pseudo.base import Evidence, Labeller, Materials, Recipe, Source

DEFAULT = "package:efficientnet_lite0"
TEACHERS = 1000  # images that the others learn from, at most, spread evenly over the list


@dataclass(frozen=True)
class SpreadLabeller(Labeller):
    """Probabilities of the classes in an image's own label, learned from that label and those of the other images.

    Every class that an image shows is taken to stand in its label, as it does where tags are known.
    """

    keeps_void: ClassVar[bool] = True

    features: Extractor  # for the record
    spreader: Spreader
    num_classes: int

    def __call__(self, read: EvaluationSample) -> Evidence | None:
        assert read.semantic is not None
        label = read.semantic.numpy().astype(np.uint8)
        if not (label < self.num_classes).any():
            return None
        ids, probability = self.spreader.scores(read.pixels, label, complete=True)
        score = torch.zeros(self.num_classes, *probability.shape[1:], device=probability.device)
        score[ids] = probability
        return Evidence(score, None)


def build(materials: Materials) -> SpreadLabeller:
    """With the features of the snapshot; without one, of the package in network.pretrained, or of EfficientNet-Lite0.

    All images of the list teach, or 1,000 of them.
    """
    config = materials.config
    names = tuple(str(index) for index in range(materials.num_classes))
    if materials.given_snapshot is not None:
        model = load(materials.given_snapshot, config, materials.device)
        spreader = Spreader(model, classes=names)
    else:
        chosen = str(config.network.pretrained)
        spreader = Spreader(chosen if chosen.startswith(PACKAGE) else DEFAULT, materials.device, classes=names)
    for sample in progress(_teachers(materials.samples), "features"):
        image, label, _ = read_sample_files(sample)
        if label is not None:
            spreader.remember(image, as_unlabelled(label, config.dataset.unlabelled_index), sample.name)
    return SpreadLabeller(materials.plan, spreader.features.extract, spreader, materials.num_classes)


def _teachers(samples: Sequence[Sample]) -> list[Sample]:
    places = np.linspace(0, len(samples) - 1, min(TEACHERS, len(samples))).round().astype(int)
    return [samples[place] for place in places]


SOURCE = Source(
    "weak labels spread at once by frozen features, those of the image and of all others",
    needs=("label",),
    recipe=Recipe((1.0,), False, 0, False),
    build=build,
    ignores=("scales", "flip", "walk_steps", "runtime"),
)
