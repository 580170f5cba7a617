"""Pixel-to-prototype contrast (Du et al., CVPR 2022), beside SEAM or plain CAM."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spml.config.kinds import choice, number
from spml.config.settings import setting
from spml.losses.prototype_contrast import PAPER, RELEASED, View, prototype_contrast
from spml.models import CamModel, build_cam_model, load_pretrained
from spml.models.cam import CamOutput, Projection
from spml.models.layers import resize
from spml.tasks.cam import CamTask
from spml.tasks.seam import SeamTask, both_views, seam_terms, small_view

GRID = (16, 16)  # of the pixels that are contrasted, in both views


@dataclass(frozen=True)
class PpcSettings:
    """The section `ppc` of a config."""

    cams: str = setting("seam", choice("seam", "cam"), "network and losses that the contrast joins")
    mining: str = setting(
        RELEASED, choice(RELEASED, PAPER), "semi-hard prototypes as the authors' code or as their paper has them"
    )
    weight: float = setting(0.1, number(low=0), "of each of the three contrasts")
    temperature: float = setting(0.1, number(above=0), "of similarities; the smaller, the harder")
    background: float = setting(0.2, number(low=0, below=1), "largest class map, in 0..1, that is still background")
    second_view_scale: float = setting(0.3, number(above=0, below=1), "size of the second view")


class PpcTask(CamTask):
    """Uses every image at two sizes, as SEAM does, with plain CAM, too.

    To the losses of `ppc.cams` (of plain CAM: classification, the mean of both views) come three contrasts of the
    projected features: cross-prototype, cross-CAM and intra-view. Labels are those of the refined maps for SEAM, of
    the raw ones for plain CAM.
    """

    name = "ppc"
    help = "network of class activation maps by pixel-to-prototype contrast, beside SEAM or plain CAM"
    settings = PpcSettings
    contrasts = ("cross_prototype", "cross_cam", "intra_view")

    def __init__(self, config: Any, cam_model: CamModel, projection: Projection) -> None:
        super().__init__(config, cam_model)
        self.projection, self.own = projection, config.ppc
        self.seam = self.own.cams == "seam"
        self.smallest_view = float(self.own.second_view_scale)
        beside = SeamTask.terms if self.seam else CamTask.terms
        self.weights = {**dict.fromkeys(beside, 1.0), **dict.fromkeys(self.contrasts, float(self.own.weight))}
        # Not torch's global one, whose state differs between processes; pixels are sampled over all of them.
        self.generator = torch.Generator().manual_seed(config.train.seed)

    @classmethod
    def from_config(cls, config: Any) -> "PpcTask":
        """Build the networks; `network.pretrained` fills that of CAMs, or its backbone; the projection is random."""
        pretrained = config.network.pretrained
        model = build_cam_model(config, None if pretrained else 0.1)
        projection = Projection(model.class_weight.in_channels)
        loaded = load_pretrained(pretrained, model, "cam_model")
        return cls(config, model, projection).started(loaded)

    @property
    def parts(self) -> dict[str, nn.Module]:
        return {"cam_model": self.cam_model, "projection_model": self.projection}

    def losses(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        image, tag = batch["image"], self.object_tag(batch)  # (B, 3, H, W), (B, C)
        first, second = (self.run(view, tag) for view in (image, small_view(image, self.smallest_view)))
        beside = seam_terms(first, second, tag) if self.seam else {"classification": both_views(first, second, tag)}
        inside = F.interpolate(batch["inside"][:, None].float(), GRID, mode="area").squeeze(1) >= 0.5
        contrasts = prototype_contrast(
            self.view(first, tag, inside),
            self.view(second, tag, inside),
            self.generator,
            temperature=self.own.temperature,
            mining=self.own.mining,
            exchange=self.exchange,
        )
        return {**self.shares(beside), **contrasts}

    def view(self, output: CamOutput, tag: Tensor, inside: Tensor) -> View:
        """Features, labels and prototypes of one view on the coarse grid, in float32."""
        with self.autocast(inside.device):
            feature = self.projection(output.feature)
        maps = output.activation if output.refined is None else output.refined
        feature, maps = resize(feature.float(), GRID), resize(F.relu(maps.detach()), GRID)
        threshold = None if self.config.dataset.background is None else float(self.own.background)
        return View.of(feature, maps, tag, inside, threshold, self.exchange)

    def state(self) -> dict[str, Any]:
        """The state of the random numbers that sample pixels."""
        return {"generator": self.generator.get_state()}

    def load_state(self, state: Mapping[str, Any], device: torch.device) -> None:
        try:
            self.generator.set_state(state["generator"].cpu())
        except RuntimeError as error:
            raise ValueError(f"generator: {error}") from error
