"""Pseudo labels by IRN: CAMs walk where no boundary lies between pixels (Ahn, Cho and Kwak, CVPR 2019)."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from spml.data.dataset import EvaluationSample
from spml.models.affinity import EDGE_STRIDE, IrnModel, load_irn_model
from spml.propagate.affinity_walk import edge_walk
from spml.pseudo.base import Evidence, Materials, Recipe, Source
from spml.pseudo.pairs import PairLabeller, shared_fields


@dataclass(frozen=True)
class IrnLabeller(PairLabeller):
    """CAMs x (1 - edge) at stride 4 after a walk, over their maximum; the background has the same score everywhere.

    The logits of edges are averaged over views. An image in which nothing walks is background, or has no scores where
    no class is.
    """

    model: IrnModel
    radius: int
    background_score: float
    stride: ClassVar[int] = EDGE_STRIDE

    @torch.no_grad()
    def __call__(self, read: EvaluationSample) -> Evidence | None:
        classes, score = self.classes(read, 1.0)
        if not classes and self.background is None:
            return None
        size = self.plan.output_size((score.shape[1], score.shape[2]))
        result = score.new_zeros(self.num_classes, *size)
        if classes:
            result[classes] = self._walked(read.image, score[classes])
        if self.background is not None:
            result[self.background] = self.background_score
        return Evidence(result, None)

    def _walked(self, image: Tensor, score: Tensor) -> Tensor:
        """CAMs (P, H, W) of (3, H, W) after the walk, at most one, at the size at which the image is labelled."""
        view = self.view(image)
        start = self.cells(score, view)
        edge = self.maps(image, self._edges, (start.shape[-2], start.shape[-1])).mean(0)[0].sigmoid()
        large = self.pixels(edge_walk(edge, start, self.radius, self.beta, self.steps), image, view)
        return large / large.max().clamp(min=torch.finfo(large.dtype).tiny)

    def _edges(self, views: Tensor) -> Tensor:
        return self.model.edges(views)[:, None]


def build(materials: Materials) -> IrnLabeller:
    """Build the source from a snapshot of the task irn and its config; every sample must have a CAM file."""
    shared, own = shared_fields(materials, "irn"), materials.config.irn
    model = load_irn_model(materials.config, materials.snapshot).to(materials.device)
    return IrnLabeller(**shared, model=model, radius=int(own.walk_radius), background_score=float(own.background))


SOURCE = Source(
    "CAMs after a walk that IRN's boundaries stop",
    needs=("snapshot", "cam_dir"),
    recipe=Recipe((1.0,), True, 0, False),
    build=build,
    ignores=("runtime",),
)
