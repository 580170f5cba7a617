"""Class activation maps from tags (Zhou et al., 2016): a network that learns which classes an image has."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from spml.data.needs import Needs
from spml.errors import UserError
from spml.losses.seam import classification_loss, of_tags, with_background
from spml.models import CamModel, build_cam_model, load_pretrained
from spml.models.cam import CamOutput
from spml.models.layers import resize
from spml.propagate.cam import ALPHA
from spml.tasks.base import Task, batch_too_small, photo
from spml.visualize import overlay
from spml.visualize.heat import heat_overlay


class CamTask(Task):
    """The classification alone. The tags of a crop are those of the whole image: a crop may have lost an object."""

    name = "cam"
    help = "network of class activation maps (CAMs) from tags"
    # With train.image_size 608 the range is SEAM's longest side of 448 to 768.
    needs = Needs(columns=1, tags=True, scale=(448 / 608, 768 / 608))
    terms: tuple[str, ...] = ("classification",)
    smallest_view = 1.0  # the smallest size of an image in a step, as a share of the crop

    def __init__(self, config: Any, cam_model: CamModel) -> None:
        """All weights are 1, as published."""
        super().__init__(config, dict.fromkeys(self.terms, 1.0))
        self.cam_model: CamModel = cam_model

    @classmethod
    def from_config(cls, config: Any) -> "CamTask":
        """Build the network; `network.pretrained` fills it, or its backbone alone."""
        background = config.dataset.background
        if background != 0:
            raise UserError(f"dataset.background: CAMs tell objects from a background, expected 0, got {background}")
        pretrained = config.network.pretrained
        model = build_cam_model(config, None if pretrained else 0.1)
        loaded = load_pretrained(pretrained, model, "cam_model")
        task = cls(config, model)
        task.notes += [loaded] if loaded else []
        task.check_stem()
        return task

    @property
    def parts(self) -> dict[str, nn.Module]:
        return {"cam_model": self.cam_model}

    def losses(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        tag = batch["semantic_tag"][:, 1:]  # (B, K - 1)
        return self.shares({"classification": classification_loss(self.run(batch["image"], tag).logit, tag)})

    def shares(self, means: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """This process's share of means over its own images, of which each process has equally many."""
        return {name: mean / self.exchange.processes for name, mean in means.items()}

    def run(self, image: Tensor, tag: Tensor) -> CamOutput:
        """Everything of one view, in float32 whatever the network computed in."""
        with self.autocast(image.device):
            output = self.cam_model(image, tag)
        refined = None if output.refined is None else output.refined.float()
        return CamOutput(output.activation.float(), output.logit.float(), refined)

    def check_batch(self, images: int) -> None:
        if images == 1 and max(self.config.train.crop_size) * self.smallest_view <= 8:  # one cell of the map
            raise batch_too_small(self.config)

    @torch.no_grad()
    def pictures(self, batch: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """The strongest map of the image's tags, and the label that the maps make, over the image."""
        image, tag = batch["image"][:1], batch["semantic_tag"][:1, 1:]
        maps = torch.nan_to_num(self.cam_model.maps(image, tag))  # of a run that diverged, too
        maps = resize(of_tags(maps, tag, maps.shape[-2:]), image.shape[-2:])
        score = with_background(maps)[0]  # (K, H, W)
        score[0] = score[0] ** ALPHA
        pixels = photo(self.config, batch)
        return {
            "strongest map": heat_overlay(pixels, score[1:].amax(0).cpu().numpy()),
            f"label at alpha {ALPHA:g}": overlay(pixels, score.argmax(0).cpu().numpy()),
        }
