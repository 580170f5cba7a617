"""Pseudo labels from the softmax classifier (released as pseudo_softmaxrw_crf and pseudo_softmax)."""

from dataclasses import dataclass

import torch
from torch import nn

from spml.data.dataset import EvaluationSample
from spml.inference.predictors import load_models
from spml.inference.whole_views import WholeViews, cut, eighth, unmirrored, working_size
from spml.models.layers import resize
from spml.pseudo.base import (
    WALK_STEPS,
    Evidence,
    Labeller,
    Materials,
    Recipe,
    Source,
    by_class_maximum,
    classes_of,
)


@dataclass(frozen=True)
class SoftmaxLabeller(Labeller):
    """The classifier's probabilities at 1/8 size, each class divided by its maximum, absent classes 0.

    As in the release, it averages probabilities over views, or logits for a walk of at most one step.
    """

    views: WholeViews
    classifier: nn.Module
    num_classes: int
    walk_steps: int

    @torch.no_grad()
    def __call__(self, read: EvaluationSample) -> Evidence | None:
        present = classes_of(read, self.num_classes)
        if not present.any():
            return None
        size = eighth(working_size(self.plan, read.image))
        embeddings, scores = [], []
        for embedding, view in self.views.padded(read.image):
            logits = resize(unmirrored(cut(self.classifier(embedding), view)), size)  # (1 or 2, K, h / 8, w / 8)
            scores.append(logits.softmax(1) if self.walk_steps > 1 else logits)
            if self.walk_steps:
                embeddings.append(resize(unmirrored(cut(embedding, view)), size))
        score = torch.cat(scores).mean(0)
        score = by_class_maximum(score if self.walk_steps > 1 else score.softmax(0), present)
        return Evidence(score, torch.cat(embeddings) if embeddings else None)


def build(materials: Materials) -> SoftmaxLabeller:
    """Build the source with the classifier of the snapshot."""
    config, snapshot, device = materials.config, materials.snapshot, materials.device
    model, classifier = load_models(config, snapshot, device, with_classifier=True, runtime=materials.runtime)
    assert classifier is not None
    views = WholeViews(model, materials.plan, device)
    return SoftmaxLabeller(materials.plan, views, classifier, materials.num_classes, materials.walk_steps)


SOURCE = Source(
    "the softmax classifier, for the classes of the image's label",
    needs=("snapshot", "label"),
    recipe=Recipe((1.0,), True, WALK_STEPS, True),
    build=build,
    short=Recipe((0.75, 1.0), True, 1, False),  # the release never squares its matrix here, and so walks one step
)
