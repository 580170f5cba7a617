"""The tables of backbones and heads, by their names in configs. To add one, write a file and add a line here."""

import difflib
from collections.abc import Iterable

from spml.errors import UserError
from spml.models.backbones import timm
from spml.models.backbones.base import Backbone, Encoder, Options
from spml.models.heads.base import Head
from spml.tables import Table

__all__ = ["BACKBONES", "HEADS", "Backbone", "Encoder", "Head", "Options", "find_backbone", "find_head"]

BACKBONES: Table[Backbone] = Table(  # and timm:<any name of timm>
    "spml.models.backbones",
    {
        "panoptic_deeplab_101": "resnet:DEEPLAB_101",
        "panoptic_deeplab_50": "resnet:DEEPLAB_50",
        "panoptic_deeplab_tiny": "tiny:TINY",
        "panoptic_pspnet_101": "resnet:PSPNET_101",
        "panoptic_pspnet_50": "resnet:PSPNET_50",
        "segnet": "segnet:SEGNET",
        "timm:tf_efficientnet_lite0": "timm:EFFICIENTNET_LITE0",
    },
)

HEADS: Table[Head] = Table(
    "spml.models.heads",
    {
        "aspp": "aspp:ASPP",
        "aspp_small": "aspp:ASPP_SMALL",
        "psp": "pyramid_pooling:PSP",
        "joined": "joined:JOINED",
        "fcn32": "fcn:FCN32",
        "fcn16": "fcn:FCN16",
        "fcn8": "fcn:FCN8",
        "segnet": "segnet:SEGNET",
        "unet": "unet:UNET",
        "deeplab_v3plus": "deeplab_v3plus:DEEPLAB_V3PLUS",
    },
)


def find_backbone(name: str) -> Backbone:
    """The entry of `network.backbone_types`: from the table, or `timm:` and any model of timm.

    Raises:
        UserError: an unknown name; it lists the known ones and the nearest.
    """
    if name not in BACKBONES and name.startswith(timm.PREFIX):
        return timm.timm_backbone(name.removeprefix(timm.PREFIX))
    if name not in BACKBONES:
        raise unknown("network.backbone_types", name, [*BACKBONES, f"{timm.PREFIX}<name>"])
    return BACKBONES[name]


def find_head(name: str | None, backbone: Backbone) -> Head:
    """The entry of `network.head`; with None, the one that goes with the backbone.

    Raises:
        UserError: an unknown name; it lists the known ones and the nearest.
    """
    name = name or backbone.head
    if name not in HEADS:
        raise unknown("network.head", name, HEADS)
    return HEADS[name]


def unknown(key: str, name: str, known: Iterable[str]) -> UserError:
    """The error of a name that no table has."""
    known = list(known)
    close = difflib.get_close_matches(str(name), known, n=1, cutoff=0.0)
    return UserError(f"{key}: expected one of {', '.join(known)}; got {name!r}; did you mean {close[0]}?")
