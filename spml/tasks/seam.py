"""SEAM (Wang et al., CVPR 2020): class activation maps that stay the same when the image shrinks."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from spml.config.kinds import number
from spml.config.settings import setting
from spml.losses.seam import classification_loss, cross_refinement_loss, equivariance_loss, min_pool_loss
from spml.models import CamModel
from spml.models.cam import CamOutput
from spml.tasks.cam import CamTask


@dataclass(frozen=True)
class SeamSettings:
    """The section `seam` of a config."""

    second_view_scale: float = setting(0.3, number(above=0, below=1), "size of the second view")


class SeamTask(CamTask):
    """Uses every image twice; the second view has `seam.second_view_scale` of its size.

    Its losses are classification, min-pooling, equivariance and cross refinement. Classification and min-pooling are
    means over both views.
    """

    name = "seam"
    help = "network of class activation maps by SEAM: two views of an image agree in their maps"
    settings = SeamSettings
    terms = ("classification", "min_pool", "equivariance", "cross_refinement")

    def __init__(self, config: Any, cam_model: CamModel) -> None:
        super().__init__(config, cam_model)
        self.smallest_view = float(config.seam.second_view_scale)

    def losses(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        image, tag = batch["image"], self.object_tag(batch)  # (B, 3, H, W), (B, C)
        return self.shares(seam_terms(self.run(image, tag), self.run(small_view(image, self.smallest_view), tag), tag))


def small_view(image: Tensor, scale: float) -> Tensor:
    """(B, 3, H, W) at `scale` of its size."""
    return F.interpolate(image, scale_factor=scale, mode="bilinear", antialias=True)


def seam_terms(first: CamOutput, second: CamOutput, tag: Tensor) -> dict[str, Tensor]:
    """SEAM's means over the images, of the outputs for both views and tags (B, C); see `SeamTask.terms`."""
    assert first.refined is not None and second.refined is not None
    return {
        "classification": both_views(first, second, tag),
        "min_pool": (min_pool_loss(first.refined, tag) + min_pool_loss(second.refined, tag)) / 2,
        "equivariance": equivariance_loss(first.activation, second.activation, tag),
        "cross_refinement": cross_refinement_loss(
            first.activation, second.activation, (first.refined, second.refined), tag
        ),
    }


def both_views(first: CamOutput, second: CamOutput, tag: Tensor) -> Tensor:
    """The classification loss, the mean of both views."""
    return (classification_loss(first.logit, tag) + classification_loss(second.logit, tag)) / 2
