"""The gated CRF loss: pixels of a small window that are near in place and colour have one class (Obukhov et al., 2019).

`Gated CRF Loss for Weakly Supervised Semantic Image Segmentation`. The cheap sibling of the dense-CRF loss: exact
pairs, but only within a window of a small map.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from spml.config.kinds import integer, number
from spml.config.settings import setting
from spml.losses.base import Inputs, Loss
from spml.losses.maps import Maps, mean, scaled
from spml.losses.quadratic import quadratic
from spml.losses.window import Offset, half_window, pair

IMAGENET_MEAN, IMAGENET_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of colours in 0..1


def gated_crf(
    probability: Tensor, rgb: Tensor, valid: Tensor, radius: int = 5, sigma_xy: float = 6.0, sigma_rgb: float = 0.1
) -> Tensor:
    """The sum over pixels i and their neighbours j of k_ij m_i m_j (1 - S_i . S_j) of each image.

    k_ij = exp(-|f_i - f_j|^2 / 2) with f = (xy / sigma_xy, rgb / sigma_rgb), j != i within `radius` of i along both
    axes; m, the gate, is one at valid pixels. Every pair counts twice, once from each end.

    Args:
        probability: (B, K, h, w) float, S.
        rgb: (B, 3, h, w) float in 0..255; normalised here by ImageNet's mean and deviation.
        valid: (B, h, w) bool; a pair with another pixel (padding, void) adds nothing.
        radius: of the window; 5 makes it 11 x 11.
        sigma_xy, sigma_rgb: standard deviations in pixels of this map and in normalised colours, above 0.

    Returns:
        (B,) of the type of `probability`, 0 or more up to rounding.
    """
    mean_, deviation = (rgb.new_tensor(v)[:, None, None] for v in (IMAGENET_MEAN, IMAGENET_DEVIATION))
    colour = (rgb / 255 - mean_) / deviation / sigma_rgb
    offsets = half_window(radius)
    kernels = [_kernel(colour, valid, offset, sigma_xy).to(probability.dtype) for offset in offsets]

    def neighbours(values: Tensor) -> Tensor:
        """sum_j k_ij m_i m_j S_j at each pixel i."""
        result = torch.zeros_like(values)
        for offset, kernel in zip(offsets, kernels, strict=True):
            for target, source in zip(pair(result, offset), reversed(pair(values, offset)), strict=True):
                target.addcmul_(kernel, source)
        return result

    weight = sum(2 * kernel.sum((1, 2, 3)) for kernel in kernels)  # (B,), of all pairs
    return weight - quadratic(probability, neighbours).sum(1)


@torch.no_grad()
def _kernel(colour: Tensor, valid: Tensor, offset: Offset, sigma_xy: float) -> Tensor:
    """k_ij m_i m_j of the pairs at `offset`: (B, 1, h', w')."""
    first, second = pair(colour, offset)
    both = torch.logical_and(*pair(valid[:, None], offset))
    place = (offset[0] ** 2 + offset[1] ** 2) / sigma_xy**2
    return (-((first - second).square().sum(1, keepdim=True) + place) / 2).exp() * both


@dataclass(frozen=True)
class GatedCRFSettings:
    """The released recipe, which turns the loss on after 0.5 % of the training; here it is on from the first step."""

    weight: float = setting(0.1, number(low=0), "of this loss")
    radius: int = setting(5, integer(1, 32), "of the window, in pixels of the map: 5 is 11 x 11")
    sigma_xy: float = setting(6.0, number(above=0), "range in pixels of the map")
    sigma_rgb: float = setting(0.1, number(above=0), "range in colours normalised as ImageNet's")
    size: int = setting(64, integer(1), "longest side of the map")


def function(inputs: Inputs, settings: GatedCRFSettings) -> Tensor:
    """`gated_crf` for each valid pixel of the maps: the sum over all processes divided by their number."""
    scale = min(settings.size / max(inputs.valid.shape[-2:]), 1)
    maps = Maps.of(inputs, scaled(inputs, scale))
    energy = gated_crf(maps.probability, maps.rgb, maps.valid, settings.radius, settings.sigma_xy, settings.sigma_rgb)
    return mean(energy, maps.valid.sum(), inputs)


LOSS = Loss(
    help="pixels of a window that are near in place and colour have one class (gated CRF)",
    settings=GatedCRFSettings,
    inputs=("logit", "rgb", "valid"),
    function=function,
)
