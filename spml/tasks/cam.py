"""Class activation maps from tags (Zhou et al., 2016): a network that learns which classes an image has."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from spml.data.needs import Needs
from spml.losses.seam import classification_loss, of_tags
from spml.models import CamModel, build_cam_model, load_pretrained
from spml.models.cam import CamOutput
from spml.models.layers import resize
from spml.propagate.cam import foreground_classes, tag_label
from spml.tasks.base import Task, batch_too_small, photo
from spml.visualize import overlay
from spml.visualize.heat import heat_overlay


class CamTask(Task):
    """Classification alone. A crop has the tags of the whole image, even if it has lost an object."""

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
        self.objects = foreground_classes(int(config.dataset.num_classes), config.dataset.background)

    @classmethod
    def from_config(cls, config: Any) -> "CamTask":
        """Build the network; `network.pretrained` fills it, or its backbone alone."""
        pretrained = config.network.pretrained
        model = build_cam_model(config, None if pretrained else 0.1)
        loaded = load_pretrained(pretrained, model, "cam_model")
        return cls(config, model).started(loaded)

    @property
    def parts(self) -> dict[str, nn.Module]:
        return {"cam_model": self.cam_model}

    def losses(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        tag = self.object_tag(batch)
        return self.shares({"classification": classification_loss(self.run(batch["image"], tag).logit, tag)})

    def object_tag(self, batch: Mapping[str, Any]) -> Tensor:
        """(B, C) bool: the tags without the background's; C = K where no class is background, else K - 1."""
        return batch["semantic_tag"][:, self.objects]

    def shares(self, means: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """This process's share of means over all images; every process has equally many."""
        return {name: mean / self.exchange.processes for name, mean in means.items()}

    def run(self, image: Tensor, tag: Tensor) -> CamOutput:
        """The output for one view, in float32 even if the network computes in bfloat16."""
        with self.autocast(image.device):
            output = self.cam_model(image, tag)
        refined = None if output.refined is None else output.refined.float()
        return CamOutput(output.activation.float(), output.logit.float(), refined, output.feature)

    def check_batch(self, images: int) -> None:
        if images == 1 and max(self.config.train.crop_size) * self.smallest_view <= 8:  # one cell of the map
            raise batch_too_small(self.config)

    @torch.no_grad()
    def pictures(self, batch: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """The maximum of the maps of the image's tags, and the label made from the maps, both over the image."""
        image, tag = batch["image"][:1], self.object_tag(batch)[:1]
        maps = torch.nan_to_num(self.cam_model.maps(image, tag))  # of a run that diverged, too
        maps = resize(of_tags(maps, tag, maps.shape[-2:]), image.shape[-2:])
        pixels, cams = photo(self.config, batch), dict(enumerate(maps[0].cpu().numpy()))
        data, alpha = self.config.dataset, float(self.config.test.cam_alpha)
        label = tag_label(cams, int(data.num_classes), pixels.shape[:2], alpha=alpha, background=data.background)
        return {
            "strongest map": heat_overlay(pixels, maps[0].amax(0).cpu().numpy()),
            f"label at alpha {alpha:g}": overlay(pixels, label, background=data.background),
        }
