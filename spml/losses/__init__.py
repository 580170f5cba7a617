"""Losses by name: `losses:` of a config switches them on."""

from spml.losses import cross_entropy, propagated
from spml.losses.base import Inputs, Loss
from spml.losses.relations import RELATIONS

TABLE: dict[str, Loss] = {
    **RELATIONS,
    "propagated_cross_entropy": propagated.LOSS,
    "cross_entropy": cross_entropy.LOSS,
}

__all__ = ["TABLE", "Inputs", "Loss"]
