"""The embedding network: a backbone of stride 8, a multi-scale head, and the features that say where a pixel lies."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spml.errors import UserError
from spml.models.backbones.resnet import RELEASED_BN_MOMENTUM, SCRATCH_BN_MOMENTUM, ResNet, resnet, tiny_resnet
from spml.models.heads.pyramid import AtrousPyramid, pyramid_pooling_head, resize

KERNEL_SIZE = 5
RESNET_101, RESNET_50 = (3, 4, 23, 3), (3, 4, 6, 3)


def location_features(batch: int, size: Sequence[int], like: Tensor) -> Tensor:
    """(batch, h, w, 2): y and x of every cell, each linspace(0, 1) - 0.5 along its axis, on the device of `like`."""
    y, x = (torch.linspace(0, 1, int(n), device=like.device) - 0.5 for n in size)
    grid = torch.stack(torch.meshgrid(y, x, indexing="ij"), dim=-1)  # (h, w, 2)
    return grid.expand(batch, -1, -1, -1)


class DistanceKernel(nn.Module):
    """A fixed 5x5 filter, the same for each of three channels: weight = distance from the centre / sum of distances."""

    weight: Tensor

    def __init__(self) -> None:
        super().__init__()
        offset = torch.arange(KERNEL_SIZE, dtype=torch.float32) - KERNEL_SIZE // 2
        distance = (offset[:, None] ** 2 + offset[None, :] ** 2).sqrt()
        # A buffer: in the state dict as released, but no parameter that an optimizer could move.
        self.register_buffer("weight", (distance / distance.sum()).repeat(3, 1, 1, 1))  # (3, 1, 5, 5)

    def forward(self, image: Tensor) -> Tensor:
        return F.conv2d(image, self.weight.to(image.dtype), groups=3)  # (B, 3, H - 4, W - 4)


class LocalFeatures(nn.Module):
    """The location and colour features of the DensePose model."""

    def __init__(self) -> None:
        super().__init__()
        self.smooth_kernel = DistanceKernel()

    @torch.no_grad()
    def forward(self, image: Tensor, size: Sequence[int]) -> Tensor:
        """(B, 3, H, W) normalised image -> (B, h, w, 5): y, x, and three colours in [-1, 1].

        Colour: filtered without padding, resized, less its mean over the image, divided by the maximum of its absolute
        value over the image. Unlike the release, an image of one colour gives zeros instead of NaN, and an image
        under five pixels wide or high is extended by its border.
        """
        with torch.autocast(image.device.type, enabled=False):
            image = image.float()
            right, below = (max(0, KERNEL_SIZE - n) for n in (image.shape[-1], image.shape[-2]))
            if right or below:
                image = F.pad(image, (0, right, 0, below), mode="replicate")
            colour = resize(self.smooth_kernel(image), size)  # (B, 3, h, w)
            colour = colour - colour.mean((2, 3), keepdim=True)
            colour = colour / colour.abs().amax((2, 3), keepdim=True).clamp(min=1e-6)
            location = location_features(len(image), size, image)
            return torch.cat([location, colour.permute(0, 2, 3, 1)], dim=-1)


class EmbeddingModel(nn.Module):
    """Image to embedding at stride 4; keys `resnet_backbone.*`, `aspp.*` or `pspp.*`, and `lfn.*` for DensePose."""

    def __init__(self, backbone: ResNet, head_name: str, head: nn.Module, colour: bool = False) -> None:
        super().__init__()
        self.resnet_backbone = backbone
        self.head_name = head_name
        self.add_module(head_name, head)
        self.lfn = LocalFeatures() if colour else None

    @property
    def backbone(self) -> ResNet:
        return self.resnet_backbone

    @property
    def head(self) -> nn.Module:
        return self.get_submodule(self.head_name)

    def forward(self, image: Tensor, size: Sequence[int] | None = None) -> Tensor:
        """The raw embedding, not normalised.

        Args:
            image: (B, 3, H, W) float, normalised by the means and deviations of the config; any H, W >= 1.
            size: (height, width) of the result. None keeps stride 4: twice the backbone's map, so 2 * ceil(H / 8) rows.

        Returns:
            (B, D, h, w). With a size, the stride-4 map is resized once more, as released.
        """
        if image.dim() != 4 or image.shape[1] != 3:
            raise ValueError(f"image: expected (B, 3, H, W), got {tuple(image.shape)}")
        x = self.head(self.resnet_backbone(image))  # (B, D, h / 2, w / 2)
        x = resize(x, (2 * x.shape[-2], 2 * x.shape[-1]))
        return x if size is None else resize(x, size)

    def location(self, image: Tensor, size: Sequence[int]) -> Tensor:
        """(B, h, w, 2) in [-0.5, 0.5]: y, x; for DensePose (B, h, w, 5) with three colours in [-1, 1] behind them."""
        if self.lfn is not None:
            return self.lfn(image, size)
        return location_features(len(image), size, image)


# Name in a config: blocks a stage of the released backbone (None: the tiny one), and the head's key.
BACKBONES: dict[str, tuple[tuple[int, ...] | None, str]] = {
    "panoptic_deeplab_101": (RESNET_101, "aspp"),
    "panoptic_deeplab_50": (RESNET_50, "aspp"),
    "panoptic_deeplab_tiny": (None, "aspp"),
    "panoptic_pspnet_101": (RESNET_101, "pspp"),
    "panoptic_pspnet_50": (RESNET_50, "pspp"),
}


def build_backbone(name: str, bn_momentum: float | None = None) -> ResNet:
    """The residual network of a backbone's name in a config; its batch norms as in `build_embedding_model`.

    Raises:
        UserError: an unknown backbone.
    """
    if name not in BACKBONES:
        raise UserError(f"network.backbone_types: expected one of {', '.join(BACKBONES)}; got {name!r}")
    depths = BACKBONES[name][0]
    if bn_momentum is None:
        bn_momentum = SCRATCH_BN_MOMENTUM if depths is None else RELEASED_BN_MOMENTUM
    return tiny_resnet(bn_momentum) if depths is None else resnet(depths, bn_momentum)


def build_embedding_model(config: Any, bn_momentum: float | None = None) -> EmbeddingModel:
    """The embedding network of a config, with fresh weights (see `initialise`) drawn from torch's global generator.

    Args:
        config: as `spml.config.load_config` returns it; read are network.backbone_types, .embedding_dim
            and dataset.dataset (`Densepose` adds colour to the location).
        bn_momentum: of the backbone's batch norms. None: 3e-4 for the released backbones, which start from trained
            statistics, 0.1 for the tiny one; pass 0.1 to train a released backbone from scratch.

    Raises:
        UserError: an unknown backbone.
    """
    backbone = build_backbone(config.network.backbone_types, bn_momentum)
    depths, head_name = BACKBONES[config.network.backbone_types]
    channels, dim = backbone.out_channels, int(config.network.embedding_dim)
    head: nn.Module
    if head_name == "pspp":
        head = pyramid_pooling_head(channels, dim)
    elif depths is None:  # dilations that fit the 12 x 12 to 40 x 40 maps of small images
        head = AtrousPyramid(channels, dim, (1, 3, 6), context=True)
    else:
        head = AtrousPyramid(channels, dim, (6, 12, 18, 24))
    return EmbeddingModel(backbone, head_name, head, colour=config.dataset.dataset == "Densepose")


def split_parameters(model: nn.Module, freeze_stem: bool) -> dict[str, list[nn.Parameter]]:
    """The parameters by learning rate: `backbone_weight`, `backbone_bias`, `head_weight`, `head_bias`.

    Args:
        model: an EmbeddingModel or a SoftmaxClassifier (all of it head), not wrapped.
        freeze_stem: leave the backbone's stem and res2 out of every group, as released.

    A bias is what is called so, batch norm's included. Nothing about the parameters is changed.
    """
    groups: dict[str, list[nn.Parameter]] = {
        f"{part}_{kind}": [] for part in ("backbone", "head") for kind in ("weight", "bias")
    }
    for name, parameter in model.named_parameters():
        if freeze_stem and name.startswith(("resnet_backbone.conv1.", "resnet_backbone.res2.")):
            continue
        part = "backbone" if name.startswith("resnet_backbone.") else "head"
        groups[f"{part}_{'bias' if name.endswith('.bias') else 'weight'}"].append(parameter)
    return groups
