"""Base of heads: the entry of the table, which builds a module from maps to an embedding, and helpers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import nn

from spml.errors import UserError
from spml.models.backbones.base import Encoder


@dataclass(frozen=True)
class Head:
    """An entry of the table of heads.

    `build(encoder, dim, width)` returns a module from the list of the encoder's maps to (B, dim, h, w), raw. `width`
    is `network.joined_dim`, the inner channels of heads that do not fix their own. `build` raises UserError if the head
    cannot work on these maps.
    """

    help: str  # one line
    build: Callable[[Encoder, int, int], nn.Module]
    stride: Callable[[Sequence[int]], int]  # of the embedding, from the strides of the maps
    key: str = "head"  # what the embedding model calls it in its state dict


def stride_of_last(strides: Sequence[int]) -> int:
    """The stride of the deepest map."""
    return strides[-1]


def level_of_stride(encoder: Encoder, stride: int, head: str) -> int:
    """The deepest map of a stride.

    Raises:
        UserError: there is none.
    """
    found = [level for level, own in enumerate(encoder.strides) if own == stride]
    if not found:
        own = ", ".join(map(str, encoder.strides))
        raise UserError(
            f"network.head: {head} needs a map of stride {stride}, but those of network.backbone_types, with "
            f"network.output_stride and network.levels, have {own}"
        )
    return found[-1]
