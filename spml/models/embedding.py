"""The embedding network: a backbone, a head, and location features of the pixels."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from spml.models.backbones.base import Encoder, Options
from spml.models.layers import rescale, resize
from spml.models.location import LocalFeatures, location_of
from spml.models.registry import find_backbone, find_head

STRIDE, STEP = 4, 8  # of the embedding; as released its size is twice that of a map of stride 8
JOINED_DIM = 128


class EmbeddingModel(nn.Module):
    """Image to embedding at stride 4.

    Released networks have the keys `resnet_backbone.*`, `aspp.*` or `pspp.*`, and `lfn.*` for DensePose; others have
    `backbone.*` and `head.*`.

    Args:
        encoder: the backbone.
        head: a module from the list of the encoder's maps to (B, D, h, w).
        head_name: its name in the state dict.
        head_stride: width in image pixels of a cell of the head's map.
        colour: use the five local features of the DensePose model instead of two.
    """

    backbone: Encoder
    head: nn.Module

    def __init__(
        self, encoder: Encoder, head: nn.Module, head_name: str = "aspp", head_stride: int = 8, colour: bool = False
    ) -> None:
        super().__init__()
        self.backbone_name, self.head_name, self.head_stride = encoder.key, head_name, head_stride
        self.add_module(encoder.key, encoder)
        self.add_module(head_name, head)
        self.lfn = LocalFeatures() if colour else None

    def __getattr__(self, name: str) -> Any:
        """`backbone` and `head` under any name that the state dict has for them."""
        alias = {"backbone": "backbone_name", "head": "head_name"}.get(name)
        return super().__getattr__(self.__dict__.get(alias, name) if alias else name)

    def forward(self, image: Tensor, size: Sequence[int] | None = None) -> Tensor:
        """The raw embedding, not normalised.

        Args:
            image: (B, 3, H, W) float, normalised by the means and deviations of the config; any H, W >= 1.
            size: (height, width) of the result. None keeps stride 4, so 2 * ceil(H / 8) rows.

        Returns:
            (B, D, h, w). With a size, the stride-4 map is resized once more, as in the release.
        """
        if image.dim() != 4 or image.shape[1] != 3:
            raise ValueError(f"image: expected (B, 3, H, W), got {tuple(image.shape)}")
        coarse = [(n + STEP - 1) // STEP * (STEP // STRIDE) for n in image.shape[-2:]]
        x = rescale(self.head(self.backbone.stages(image)), self.head_stride, STRIDE, coarse)  # (B, D, h, w)
        return x if size is None else resize(x, size)

    def location(self, image: Tensor, size: Sequence[int]) -> Tensor:
        """(B, h, w, 2) in [-0.5, 0.5]: y, x; for DensePose (B, h, w, 5), followed by three colours in [-1, 1]."""
        if self.lfn is not None:
            return self.lfn(image, size)
        return location_of(image, size)


def build_backbone(config: Any, bn_momentum: float | None = None) -> Encoder:
    """The backbone of a config, with fresh weights.

    Args:
        config: it reads network.backbone_types, .output_stride, .levels, .freeze_backbone and .freeze_bn.
        bn_momentum: of its batch norms, as in `build_embedding_model`.

    Raises:
        UserError: an unknown backbone, or one that lacks the levels or the stride.
    """
    network = config.network
    options = Options(network.get("output_stride"), tuple(network.get("levels") or ()), bn_momentum)
    encoder = find_backbone(network.backbone_types).build(options)
    encoder.freeze(bool(network.get("freeze_backbone")), bool(network.get("freeze_bn")))
    return encoder


def build_embedding_model(config: Any, bn_momentum: float | None = None) -> EmbeddingModel:
    """The embedding network of a config, with fresh weights drawn from torch's global generator.

    Args:
        config: as `spml.config.load_config` returns it. It reads network.head, .joined_dim, .embedding_dim, the keys of
            `build_backbone`, and dataset.dataset (`Densepose` adds colour to the location).
        bn_momentum: of the backbone's batch norms. None: 3e-4 for the released backbones, which start from trained
            statistics; 0.1 for the tiny one; timm's own for timm's. Pass 0.1 to train a released one from scratch.

    Raises:
        UserError: an unknown backbone or head, or two that do not fit.
    """
    network = config.network
    head = find_head(network.get("head"), find_backbone(network.backbone_types))
    encoder = build_backbone(config, bn_momentum)
    module = head.build(encoder, int(network.embedding_dim), int(network.get("joined_dim", JOINED_DIM)))
    colour = config.dataset.dataset == "Densepose"
    return EmbeddingModel(encoder, module, head.key, head.stride(encoder.strides), colour)


def split_parameters(model: nn.Module, freeze_stem: bool) -> dict[str, list[nn.Parameter]]:
    """The parameters by learning rate: `backbone_weight`, `backbone_bias`, `head_weight`, `head_bias`.

    Args:
        model: an EmbeddingModel, a CamModel or a SoftmaxClassifier (all of which is head), without a wrapper.
        freeze_stem: leave the backbone's first layers out of every group: in the released networks the stem and res2,
            in others the layers up to the first map of stride 4, in a ViT the layers that make the tokens.

    A bias is a parameter of that name, including those of batch norms. No group holds a frozen backbone. The function
    does not change the parameters.
    """
    groups: dict[str, list[nn.Parameter]] = {
        f"{part}_{kind}": [] for part in ("backbone", "head") for kind in ("weight", "bias")
    }
    own = {}  # parameters of backbones: name inside, and the backbone
    for encoder in (module for module in model.modules() if isinstance(module, Encoder)):
        own.update({parameter: (name, encoder) for name, parameter in encoder.named_parameters()})
    for name, parameter in model.named_parameters():
        if parameter in own:
            inside, encoder = own[parameter]
            if encoder.frozen or (freeze_stem and inside.startswith(encoder.stem)):
                continue
        part = "backbone" if parameter in own else "head"
        groups[f"{part}_{'bias' if name.endswith('.bias') else 'weight'}"].append(parameter)
    return groups
