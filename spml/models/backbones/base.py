"""Base classes of backbones: the encoder from images to feature maps, and its entry in the table."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from spml.errors import UserError

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Options:
    """What a config chooses about a backbone; the defaults leave it as in its table entry."""

    output_stride: int | None = None  # of the coarsest map
    levels: tuple[int, ...] = ()  # which maps, counted from the finest; none: all
    bn_momentum: float | None = None


class Encoder(nn.Module):
    """Image to feature maps, in order of depth.

    A subclass defines `maps`, which computes every level or only the wanted ones; callers use `stages`.

    Attributes:
        channels, strides: of the maps that `stages` returns, one number each.
        key: the name of the encoder in the state dict of its model.
        stem: prefixes of the parameters that `train.freeze_stem` freezes.
        frozen: the encoder does not learn: no gradient, and batch norms keep their statistics.
        frozen_norms: batch norms keep their statistics, in training too.
    """

    key: ClassVar[str] = "backbone"

    def __init__(self, channels: Sequence[int], strides: Sequence[int]) -> None:
        super().__init__()
        self.channels, self.strides = tuple(channels), tuple(strides)
        self.stem: tuple[str, ...] = ()
        self.frozen = self.frozen_norms = False

    def freeze(self, everything: bool = False, norms: bool = False) -> None:
        """Freeze all of the encoder or its batch norms, from now on; see the attributes."""
        self.frozen, self.frozen_norms = everything, norms
        self.requires_grad_(not everything)
        self.train(self.training)

    def train(self, mode: bool = True) -> "Encoder":
        """As in any module, but frozen parts stay in eval mode."""
        super().train(mode and not self.frozen)
        if self.frozen_norms:
            for module in self.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        return self

    def set_momentum(self, momentum: float | None) -> None:
        """Give every batch norm a momentum; None: leave them."""
        for module in self.modules():
            if momentum is not None and isinstance(module, nn.BatchNorm2d):
                module.momentum = momentum

    def maps(self, image: Tensor) -> list[Tensor]:
        """The maps, one for each of `channels`; for subclasses to write."""
        raise NotImplementedError

    def stages(self, image: Tensor) -> list[Tensor]:
        """Maps (B, channels[i], ceil(H / strides[i]), ceil(W / strides[i])) of an image (B, 3, H, W), any H, W >= 1.

        The image is float, normalised by the means and deviations of the config.
        """
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            return self.maps(image)

    def forward(self, image: Tensor) -> Tensor:
        """The deepest map alone."""
        return self.stages(image)[-1]


@dataclass(frozen=True)
class Backbone:
    """An entry of the table of backbones."""

    help: str  # one line
    build: Callable[[Options], Encoder]
    channels: tuple[int, ...]  # of the levels, finest first
    strides: tuple[int, ...]
    head: str  # the head that goes with it when the config names none
    weights: str  # where trained weights come from
    mean: tuple[float, ...] = IMAGENET_MEAN  # RGB of images in [0, 1], as the weights were trained with
    std: tuple[float, ...] = IMAGENET_STD


def fixed_stride(options: Options, stride: int, name: str) -> None:
    """Refuse any stride but the one that a network has.

    Raises:
        UserError: network.output_stride asks for one.
    """
    if options.output_stride not in (None, stride):
        raise UserError(f"network.output_stride: expected {stride}, which {name} has, got {options.output_stride}")


def chosen_levels(options: Options, count: int, last: bool = False) -> tuple[int, ...]:
    """The levels, out of `count`, that a config names; all levels if it names none.

    Args:
        last: the network computes every level anyway, so the config must name the deepest; otherwise its weights would
            get no gradient.

    Raises:
        UserError: a level that does not exist, is named twice or is out of order, or the deepest is missing.
    """
    levels = options.levels or tuple(range(count))
    wrong = list(levels) != sorted(set(levels)) or levels[0] < 0 or levels[-1] >= count
    if wrong or (last and levels[-1] != count - 1):
        also = f", {count - 1} among them" if last else ""
        raise UserError(f"network.levels: expected growing numbers of 0..{count - 1}{also}, got {list(levels)}")
    return tuple(levels)
