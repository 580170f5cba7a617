"""AffinityNet (Ahn and Kwak, CVPR 2018): features that say whether two near pixels are of one class."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from spml.config.kinds import integer, number
from spml.config.settings import setting
from spml.data.needs import Needs
from spml.losses.affinity import PairKinds, affinity_terms, cell_label
from spml.models.affinity import FEATURE_STRIDE, AffinityModel, build_affinity_model, load_start
from spml.models.layers import rescale
from spml.propagate.pairs import by_offset, disk_offsets, feature_affinity, pair
from spml.tasks.base import Task, batch_too_small, photo
from spml.visualize import overlay
from spml.visualize.heat import heat_overlay

WEIGHTS = {"background": 0.25, "objects": 0.25, "different": 0.5}  # as published


@dataclass(frozen=True)
class AffinitySettings:
    """The section `affinity` of a config: of the training, of its confident areas and of the walk."""

    radius: int = setting(5, integer(2, 32), "pairs are nearer than this, in cells of 8 pixels")
    object_alpha: float = setting(4.0, number(above=0), "confident objects: background (1 - max CAM)^alpha, much of it")
    background_alpha: float = setting(32.0, number(above=0), "confident background: the same, little of it")
    alpha: float = setting(16.0, number(above=0), "the background that starts the walk")
    beta: float = setting(8.0, number(above=0), "sharpness of the walk's affinities")
    steps: int = setting(256, integer(0), "of the walk; fewer for images of few cells")


class AffinityTask(Task):
    """Learns from labels of confident areas, as `spml confident` makes them of CAMs: 255 where they say nothing.

    The labels are read at stride 8, where a cell has its most frequent class.
    """

    name = "affinity"
    help = "AffinityNet: which near pixels are of one class, from confident areas of CAMs"
    settings = AffinitySettings
    # With train.image_size 608 the range is the authors' longest side of 448 to 768.
    needs = Needs(columns=2, scale=(448 / 608, 768 / 608))

    def __init__(self, config: Any, affinity_model: AffinityModel) -> None:
        super().__init__(config, WEIGHTS)
        self.affinity_model: AffinityModel = affinity_model
        self.offsets = disk_offsets(int(config.affinity.radius))

    @classmethod
    def from_config(cls, config: Any) -> "AffinityTask":
        """Build the network; `network.pretrained` fills its backbone, or all of it."""
        pretrained = config.network.pretrained
        model = build_affinity_model(config, None if pretrained else 0.1)
        loaded = load_start(pretrained, model, "affinity_model")
        return cls(config, model).started(loaded)

    @property
    def parts(self) -> dict[str, nn.Module]:
        return {"affinity_model": self.affinity_model}

    def losses(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        with self.autocast(batch["image"].device):
            feature = self.affinity_model(batch["image"])
        data = self.config.dataset
        label = cell_label(batch["semantic_label"], FEATURE_STRIDE, int(data.num_classes))
        kinds = PairKinds.of(label, self.offsets, int(data.num_classes), data.background)
        return affinity_terms(feature_affinity(feature.float(), self.offsets), kinds, self.exchange)

    def check_batch(self, images: int) -> None:
        check_norms(self.config, self.affinity_model.encoder, images)

    @torch.no_grad()
    def pictures(self, batch: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """The confident areas, and as heat how unlike its neighbours each pixel is."""
        image = batch["image"][:1]
        feature = torch.nan_to_num(self.affinity_model(image).float())  # of a run that diverged, too
        size = (feature.shape[-2], feature.shape[-1])
        unlike = boundary(feature_affinity(feature, self.offsets)[0], self.offsets, size)
        return pair_pictures(self.config, batch, unlike, FEATURE_STRIDE)


def boundary(affinity: Tensor, offsets: list[tuple[int, int]], size: tuple[int, int]) -> Tensor:
    """1 - the mean affinity of each pixel with its neighbours: (P,) -> (h, w) in [0, 1]; 0 without neighbours."""
    total, count = affinity.new_zeros(size), affinity.new_zeros(size)
    for offset, values in zip(offsets, by_offset(affinity, offsets, size), strict=True):
        for sums, counts in zip(pair(total, offset), pair(count, offset), strict=True):
            sums.add_(1 - values)
            counts.add_(1)
    return total / count.clamp(min=1)


def pair_pictures(config: Any, batch: Mapping[str, Any], edge: Tensor, stride: int) -> dict[str, np.ndarray]:
    """Pictures of the first image of a batch: its confident areas, and edges (h, w) in [0, 1] as heat."""
    pixels, label = photo(config, batch), batch["semantic_label"][0].cpu().numpy().astype(np.uint8)
    large = rescale(edge[None, None], stride, 1, pixels.shape[:2])[0, 0].clamp(0, 1)
    return {
        "confident areas": overlay(pixels, label, background=config.dataset.background),
        "boundaries": heat_overlay(pixels, large.cpu().numpy()),
    }


def check_norms(config: Any, encoder: Any, images: int) -> None:
    """Raise UserError where batch norms of the backbone, in training, would get one value a channel."""
    still = encoder.frozen or encoder.frozen_norms
    if images == 1 and not still and max(config.train.crop_size) <= max(encoder.strides):
        raise batch_too_small(config)
