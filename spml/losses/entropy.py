"""Entropy: each pixel should be certain of its class (Grandvalet and Bengio, 2004)."""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from spml.config.kinds import number
from spml.config.settings import setting
from spml.losses.base import Inputs, Loss
from spml.losses.maps import mean


def entropy(logit: Tensor, valid: Tensor) -> Tensor:
    """The sum over valid pixels of -sum_k S_k ln S_k of each image, S the softmax of the scores.

    Args:
        logit: (B, K, h, w) float, raw scores; log-softmax of them avoids ln 0 where a pixel is certain.
        valid: (B, h, w) bool; the other pixels (padding, void) add nothing.

    Returns:
        (B,) of the type of `logit`, between 0 and ln K a pixel.
    """
    logarithm = logit.log_softmax(1)
    certain = -(logarithm.exp() * logarithm).sum(1)  # (B, h, w)
    return certain.masked_fill(~valid, 0).sum((1, 2))


@dataclass(frozen=True)
class EntropySettings:
    """Use it beside cross-entropy: alone, it is lowest where every pixel has the same class."""

    weight: float = setting(1.0, number(low=0), "of this loss")


def function(inputs: Inputs, settings: EntropySettings) -> Tensor:
    """The mean of `entropy` over the valid pixels of all processes; logits are enlarged bilinearly to the crop."""
    logit = F.interpolate(inputs.logit, inputs.valid.shape[-2:], mode="bilinear", align_corners=False)
    return mean(entropy(logit, inputs.valid), inputs.valid.sum(), inputs)


LOSS = Loss(
    help="pixels are certain of their class, labelled or not",
    settings=EntropySettings,
    inputs=("logit", "valid"),
    function=function,
)
