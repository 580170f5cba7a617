"""IRN (Ahn, Cho and Kwak, CVPR 2019): boundaries between classes, and displacements to the centres of objects."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from spml.config.kinds import integer, number
from spml.config.settings import setting
from spml.data.needs import Needs
from spml.losses.affinity import PairKinds, affinity_terms, cell_label, displacement_terms
from spml.models.affinity import EDGE_STRIDE, IrnModel, build_irn_model, load_start
from spml.propagate.pairs import disk_offsets, path_affinity
from spml.tasks.affinity import WEIGHTS, check_norms, pair_pictures
from spml.tasks.base import Task

MULTIPLIERS = {"edge": 1, "displacement": 10}  # of the learning rate, as released
DISPLACEMENT_WEIGHTS = {"displacement_objects": 0.5, "displacement_background": 0.5}


@dataclass(frozen=True)
class IrnSettings:
    """The section `irn` of a config: of the training, of its confident areas and of the walk."""

    radius: int = setting(10, integer(2, 32), "pairs of the training are nearer than this, in cells of 4 pixels")
    object_threshold: float = setting(0.3, number(low=0, below=1), "confident objects: the CAM is above")
    background_threshold: float = setting(0.05, number(low=0, below=1), "confident background: every CAM is below")
    walk_radius: int = setting(5, integer(2, 32), "the same of the walk")
    beta: float = setting(10.0, number(above=0), "sharpness of the walk's affinities")
    steps: int = setting(256, integer(0), "of the walk; fewer for images of few cells")
    background: float = setting(0.25, number(low=0, below=1), "score of the background beside the walked CAMs, up to 1")


class IrnTask(Task):
    """Learns from labels of confident areas, as `spml confident` makes them of CAMs: 255 where they say nothing.

    The labels are read at stride 4, where a cell has its most frequent class. The backbone learns too, unless
    `network.freeze_backbone` is set, as released. Its layers have the rates that `Task` gives them.
    """

    name = "irn"
    help = "IRN: boundaries between classes, from confident areas of CAMs"
    settings = IrnSettings
    needs = Needs(columns=2)

    def __init__(self, config: Any, irn_model: IrnModel) -> None:
        super().__init__(config, {**WEIGHTS, **DISPLACEMENT_WEIGHTS})
        self.irn_model: IrnModel = irn_model
        self.offsets = disk_offsets(int(config.irn.radius))

    @classmethod
    def from_config(cls, config: Any) -> "IrnTask":
        """Build the network; `network.pretrained` fills its backbone, or all of it."""
        pretrained = config.network.pretrained
        model = build_irn_model(config, None if pretrained else 0.1)
        loaded = load_start(pretrained, model, "irn_model")
        return cls(config, model).started(loaded)

    @property
    def parts(self) -> dict[str, nn.Module]:
        return {"irn_model": self.irn_model}

    def losses(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        with self.autocast(batch["image"].device):
            edge, displacement = self.irn_model(batch["image"])
        data = self.config.dataset
        label = cell_label(batch["semantic_label"], EDGE_STRIDE, int(data.num_classes))
        kinds = PairKinds.of(label, self.offsets, int(data.num_classes), data.background)
        affinity = path_affinity(edge.float().sigmoid(), self.offsets)
        return {
            **affinity_terms(affinity, kinds, self.exchange),
            **displacement_terms(displacement.float(), kinds, self.offsets, self.exchange),
        }

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The backbone's groups as in `Task`; edges at the base rate, displacements at ten times that."""
        branches = {
            name: [parameter for module in modules for parameter in module.parameters()]
            for name, modules in self.irn_model.branches().items()
        }
        heads = {id(parameter) for parameters in branches.values() for parameter in parameters}
        groups = [group for group in super().parameter_groups() if id(group["params"][0]) not in heads]
        decay = self.config.train.weight_decay
        return groups + [
            {"params": parameters, "multiplier": MULTIPLIERS[name], "weight_decay": decay}
            for name, parameters in branches.items()
        ]

    def check_batch(self, images: int) -> None:
        check_norms(self.config, self.irn_model.encoder, images)

    @torch.no_grad()
    def pictures(self, batch: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """The confident areas, and the boundaries as heat."""
        edge = self.irn_model.edges(batch["image"][:1]).float().sigmoid()[0]
        return pair_pictures(self.config, batch, torch.nan_to_num(edge), EDGE_STRIDE)
