"""Class activation maps from tags: plain CAM (Zhou et al., 2016) and SEAM (Wang et al., CVPR 2020)."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spml.engine.distributed import world_size
from spml.models.cam import CamModel, CamOutput
from spml.models.layers import resize
from spml.models.seam import (
    classification_loss,
    cross_refinement_loss,
    equivariance_loss,
    min_pool_loss,
    shown,
    with_background,
)
from spml.propagate.cam import ALPHA
from spml.visualize.palette import colourise


class CamTask(nn.Module):
    """Batch in, named raw losses out: everything of a step but the update. Each loss is a mean over all images.

    Plain CAM has the classification alone. SEAM sees every image twice, the second time `train.second_view_scale`
    small, and adds min-pooling, equivariance and cross refinement; classification and min-pooling are the mean of
    both views. All weights are 1, as published.
    """

    classifier = None  # a snapshot holds the network alone

    def __init__(self, config: Any, model: CamModel) -> None:
        super().__init__()
        self.config = config
        self.embedding_model: CamModel = model  # the name under which snapshots hold a network
        self.trained = [model]
        seam = model.pixel_correlation is not None
        names = ("classification", "min_pool", "equivariance", "cross_refinement") if seam else ("classification",)
        self.weights = dict.fromkeys(names, 1.0)

    def forward(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """Return each term of the loss, raw; their sum, weighted by `self.weights`, is what training minimises.

        The tags of a crop are those of the whole image, as everywhere: a crop may have lost an object.
        """
        image, tag = batch["image"], batch["semantic_tag"][:, 1:]  # (B, 3, H, W), (B, K - 1)
        first = self.run(image, tag)
        losses = {"classification": classification_loss(first.logit, tag)}
        if first.refined is not None:
            small = F.interpolate(
                image, scale_factor=self.config.train.second_view_scale, mode="bilinear", antialias=True
            )
            second = self.run(small, tag)
            assert second.refined is not None
            losses = {
                "classification": (losses["classification"] + classification_loss(second.logit, tag)) / 2,
                "min_pool": (min_pool_loss(first.refined, tag) + min_pool_loss(second.refined, tag)) / 2,
                "equivariance": equivariance_loss(first.activation, second.activation, tag),
                "cross_refinement": cross_refinement_loss(
                    first.activation, second.activation, (first.refined, second.refined), tag
                ),
            }
        # The engine sums over processes, which have equally many images.
        return {name: loss / world_size() for name, loss in losses.items()}

    def run(self, image: Tensor, tag: Tensor) -> CamOutput:
        """Everything of one view, in float32 whatever the network computed in."""
        with torch.autocast(image.device.type, torch.bfloat16, enabled=self.config.train.amp == "bf16"):
            output = self.embedding_model(image, tag)
        refined = None if output.refined is None else output.refined.float()
        return CamOutput(output.activation.float(), output.logit.float(), refined)

    @torch.no_grad()
    def picture(self, batch: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """What TensorBoard shows of the batch's first image: the maps of its tags as a label, uint8 (H, W, 3)."""
        device = next(self.parameters()).device
        image, tag = batch["image"][:1].to(device), batch["semantic_tag"][:1, 1:].to(device)
        maps = torch.nan_to_num(self.embedding_model.maps(image, tag))  # of a run that diverged, too
        maps = resize(shown(maps, tag, maps.shape[-2:]), image.shape[-2:])
        score = with_background(maps)[0]  # (K, H, W)
        score[0] = score[0] ** ALPHA
        strongest = (score[1:].amax(0) * 255).byte().cpu().numpy()
        return {
            "strongest map": np.repeat(strongest[..., None], 3, axis=2),
            f"label at alpha {ALPHA:g}": colourise(score.argmax(0).byte().cpu().numpy()),
        }

    def extra_state(self) -> dict[str, Any]:
        """Return what a resumed run needs beside models and optimizer: nothing."""
        return {}

    def load_extra_state(self, state: Mapping[str, Any], device: torch.device) -> None:
        """Take back `extra_state()`."""
