"""The base class of tasks: networks to train and the losses of a batch. The trainer uses tasks through it alone."""

from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from spml.data.needs import Needs
from spml.errors import UserError
from spml.grouping.memory import ALONE, Exchange
from spml.models import split_parameters

T = TypeVar("T", bound="Task")
MULTIPLIER = {"backbone_weight": 1, "backbone_bias": 2, "head_weight": 10, "head_bias": 20}


class Task(nn.Module):
    """One thing to train. A subclass fills in what is open here and has a line in `spml.tasks.TABLE`.

    Attributes:
        help: one line on what it trains.
        settings: a dataclass of `spml.config.settings.setting` fields, which becomes the config's section `<name>`.
        needs: what the training data must have.
        exchange: the other processes; the trainer sets it.
        weights: the weight of each term that `losses` returns; the trainer applies it.
        notes: lines that the trainer prints, such as which weights it loaded.
    """

    name: ClassVar[str]
    help: ClassVar[str]
    settings: ClassVar[type | None] = None
    needs: Needs = Needs()
    exchange: Exchange = ALONE

    def __init__(self, config: Any, weights: Mapping[str, float]) -> None:
        """`config` is the tree of `spml.config.load_config`."""
        super().__init__()
        self.config = config
        self.weights = dict(weights)
        self.notes: list[str] = []

    @classmethod
    def from_config(cls, config: Any) -> "Task":
        """Build the networks, with the weights of `network.pretrained` if it is set.

        Raises:
            UserError: a config that this task cannot train, or weights that do not fit.
        """
        raise NotImplementedError

    @property
    def parts(self) -> dict[str, nn.Module]:
        """The networks by their names in a snapshot; the release has `embedding_model` and `prediction_model`."""
        raise NotImplementedError

    @property
    def trained(self) -> list[nn.Module]:
        """The networks that the losses reach; the others keep their weights."""
        return list(self.parts.values())

    def losses(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """Return the raw terms of the loss. Training minimises their sum, weighted by `weights`.

        A term is a float32 scalar: this process's share of a mean over all processes, so that the sum over processes
        is the loss.

        Args:
            batch: as `spml.data.dataset.build_training_loader` makes it, on the device of the networks.
        """
        raise NotImplementedError

    def forward(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """`losses`, under the name that DistributedDataParallel calls."""
        return self.losses(batch)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The parameters to train, in the release's groups: rates x1 backbone, x10 heads, biases double, without decay.

        `network.backbone_lr` multiplies the backbone's rate. With `train.freeze_stem` no group has its first layers,
        with `network.freeze_backbone` no group has any of it.
        """
        train, backbone_lr = self.config.train, self.config.network.backbone_lr
        groups: dict[str, list[nn.Parameter]] = {name: [] for name in MULTIPLIER}
        for model in self.trained:
            for name, parameters in split_parameters(model, train.freeze_stem).items():
                groups[name] += parameters
        return [
            {
                "params": parameters,
                "multiplier": MULTIPLIER[name] * (backbone_lr if name.startswith("backbone") else 1),
                "weight_decay": 0.0 if name.endswith("bias") else train.weight_decay,
            }
            for name, parameters in groups.items()
            if parameters
        ]

    def check_batch(self, images: int) -> None:
        """Raise UserError where a batch norm cannot take the statistics of `images` images of the training crop."""

    def state(self) -> dict[str, Any]:
        """Return what else a resumed run needs beside networks and optimizer, as plain tensors and numbers."""
        return {}

    def load_state(self, state: Mapping[str, Any], device: torch.device) -> None:
        """Restore the result of `state()`. Raises KeyError, TypeError or ValueError for that of another task."""

    def pictures(self, batch: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Pictures of the first image of a batch for TensorBoard, by title: uint8 (H, W, 3). Called in eval mode."""
        return {}

    def autocast(self, device: torch.device) -> torch.autocast:
        """The context in which networks compute: bfloat16 with `train.amp: bf16`. Losses stay in float32."""
        return torch.autocast(device.type, torch.bfloat16, enabled=self.config.train.amp == "bf16")

    def started(self: T, loaded: str) -> T:
        """This task, with notes on the weights that were loaded ("": none) and on layers that would stay random."""
        self.notes += [loaded] if loaded else []
        self.check_stem()
        return self

    def check_stem(self) -> None:
        """Note where random first layers would never learn."""
        if self.config.train.freeze_stem and not self.config.network.pretrained:
            self.notes.append(
                "warning: network.pretrained is empty and train.freeze_stem true: the first layers stay random"
            )


def batch_too_small(config: Any) -> UserError:
    """The error for a batch with one value a channel, which has no variance for a batch norm in training."""
    return UserError(
        f"train.batch_size: expected at least 2 for the batch norms of {config.network.backbone_types} on a crop of "
        f"{config.train.crop_size}, got 1"
    )


def photo(config: Any, batch: Mapping[str, Any]) -> np.ndarray:
    """The first image of a batch as uint8 (H, W, 3), from its normalised values."""
    network, image = config.network, batch["image"][0].permute(1, 2, 0).cpu().numpy()
    image = image * np.array(network.pixel_stds) + np.array(network.pixel_means)
    return (image * 255).round().clip(0, 255).astype(np.uint8)
