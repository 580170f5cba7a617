"""Pseudo labels by AffinityNet: CAMs and their background walk by learned affinities (Ahn and Kwak, CVPR 2018)."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from spml.data.dataset import EvaluationSample
from spml.models.affinity import FEATURE_STRIDE, AffinityModel, load_affinity_model
from spml.propagate.affinity_walk import affinity_walk
from spml.propagate.pairs import disk_offsets, feature_affinity
from spml.pseudo.base import Evidence, Materials, Recipe, Source
from spml.pseudo.pairs import PairLabeller, shared_fields


@dataclass(frozen=True)
class AffinityLabeller(PairLabeller):
    """CAMs and (1 - max)^alpha at stride 8, after a walk by affinities that are averaged over views."""

    model: AffinityModel
    radius: int
    alpha: float
    stride: ClassVar[int] = FEATURE_STRIDE

    @torch.no_grad()
    def __call__(self, read: EvaluationSample) -> Evidence | None:
        classes, score = self.classes(read, self.alpha)
        if not classes and self.background is None:
            return None
        present = classes if self.background is None else [self.background, *classes]
        view, offsets = self.view(read.image), disk_offsets(self.radius)
        start = self.cells(score[present], view)
        feature = self.maps(read.image, self.model, (start.shape[-2], start.shape[-1]))
        affinity = feature_affinity(feature, offsets).mean(0)
        walked = affinity_walk(affinity, start, offsets, self.beta, self.steps)
        large = self.pixels(walked, read.image, view)
        result = large.new_zeros(self.num_classes, *large.shape[1:])
        result[present] = large
        return Evidence(result, None)


def build(materials: Materials) -> AffinityLabeller:
    """Build the source from a snapshot of the task affinity and its config; every sample must have a CAM file."""
    shared, own = shared_fields(materials, "affinity"), materials.config.affinity
    model = load_affinity_model(materials.config, materials.snapshot).to(materials.device)
    return AffinityLabeller(**shared, model=model, radius=int(own.radius), alpha=float(own.alpha))


SOURCE = Source(
    "CAMs after a walk by AffinityNet's affinities of near pixels",
    needs=("snapshot", "cam_dir"),
    recipe=Recipe((1.0,), False, 0, False),
    build=build,
    ignores=("runtime",),
)
