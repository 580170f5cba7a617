"""The dense-CRF loss: pixels near in place and colour should have the same class (Tang et al., ECCV 2018).

`On Regularized Losses for Weakly-supervised CNN Segmentation`, equation 7 with the Gaussian kernel of Kraehenbuehl and
Koltun (2011). The kernel is applied by the permutohedral lattice: no matrix of pixels by pixels.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from spml.config.kinds import number
from spml.config.settings import setting
from spml.losses.base import Inputs, Loss
from spml.losses.maps import Maps, mean, scaled
from spml.losses.quadratic import quadratic
from spml.propagate.lattice import Lattice, build_lattice


@dataclass(frozen=True)
class Gaussian:
    """W of a batch: w_ij = exp(-|xy_i - xy_j|^2 / 2 sigma_xy^2 - |rgb_i - rgb_j|^2 / 2 sigma_rgb^2), approximately.

    Only pairs of valid pixels of one image have a weight; a pixel also pairs with itself (w_ii = 1). W is symmetric.
    """

    lattice: Lattice
    valid: Tensor  # (B, h, w) bool

    @classmethod
    @torch.no_grad()
    def of(cls, rgb: Tensor, valid: Tensor, sigma_xy: float, sigma_rgb: float) -> "Gaussian":
        """Args: as `dense_crf`. Pixels that are not valid take place and colour of the first valid one."""
        batch, _, height, width = rgb.shape
        y, x = (torch.arange(size, device=rgb.device).float() / sigma_xy for size in (height, width))
        place = torch.stack([x.expand(height, width), y[:, None].expand(height, width)])  # (2, h, w)
        feature = torch.cat([place.expand(batch, -1, -1, -1), rgb.float() / sigma_rgb], 1).flatten(2)  # (B, 5, n)
        counts = valid.flatten(1)[:, None]  # (B, 1, n)
        first = counts.byte().argmax(2, keepdim=True).expand(-1, 5, -1)
        feature = torch.where(counts, feature, feature.gather(2, first))
        return cls(build_lattice(feature.transpose(1, 2).contiguous()), valid)

    @torch.no_grad()
    def __call__(self, values: Tensor) -> Tensor:
        """(B, K, h, w) float -> W values, the same shape and type."""
        batch, classes, height, width = values.shape
        masked = values * self.valid[:, None]
        rows = masked.permute(0, 2, 3, 1).reshape(-1, classes)
        rows = self.lattice.symmetric(rows) / total_weight(5)
        return rows.view(batch, height, width, classes).permute(0, 3, 1, 2) * self.valid[:, None]


def total_weight(d: int) -> float:
    """The total weight that a lattice of d features gives to a unit, divided by the total weight of the Gaussian.

    Each of d + 1 blurs doubles the sum, the filter is divided by 1 + 2^-d, and a corner represents the volume
    (3/2)^(d/2) / sqrt(d + 1) in units of the standard deviations; the Gaussian's integral is (2 pi)^(d/2).
    """
    lattice = 2 ** (d + 1) / (1 + 2**-d) * 1.5 ** (d / 2) / math.sqrt(d + 1)
    return lattice / (2 * math.pi) ** (d / 2)


def dense_crf(probability: Tensor, rgb: Tensor, valid: Tensor, sigma_xy: float, sigma_rgb: float) -> Tensor:
    """The energy -sum_k S_k' W S_k of each image; its gradient is -2 W S.

    W is the approximate `Gaussian`: on photographs the value is about 0.8 of the exact Gaussian's, and the gradient
    follows the exact one (correlation 0.98 to 0.99). The energy is negative, grows with the square of the number of
    pixels where sigma_xy grows with the side, and is lowest where all pixels are certain of one class.

    Args:
        probability: (B, K, h, w) float, S.
        rgb: (B, 3, h, w) float in 0..255.
        valid: (B, h, w) bool; the other pixels (padding, void) neither give nor take.
        sigma_xy, sigma_rgb: standard deviations in pixels of this map and in grey values, above 0.

    Returns:
        (B,) of the type of `probability`, zero for an image without valid pixels.

    Raises:
        UserError: standard deviations too small for the lattice.
    """
    return -quadratic(probability, Gaussian.of(rgb, valid, sigma_xy, sigma_rgb)).sum(1)


@dataclass(frozen=True)
class DenseCRFSettings:
    """The released PyTorch recipe, for crops of 513. s times the side and s sigma_xy give s^4 times the energy."""

    weight: float = setting(
        2e-9, number(low=0), "of this loss; a smaller crop has less energy: s^4 where sigma_xy shrinks by s as well"
    )
    sigma_xy: float = setting(100.0, number(above=0), "range in pixels of the crop")
    sigma_rgb: float = setting(15.0, number(above=0), "range in grey values")
    scale: float = setting(0.5, number(above=0), "size of the maps, as a part of the crop")


def function(inputs: Inputs, settings: DenseCRFSettings) -> Tensor:
    """The mean over images of all processes of `dense_crf`."""
    maps = Maps.of(inputs, scaled(inputs, settings.scale))
    sigma_xy = settings.sigma_xy * settings.scale
    energy = dense_crf(maps.probability, maps.rgb, maps.valid, sigma_xy, settings.sigma_rgb)
    return mean(energy, energy.new_tensor(len(energy)), inputs)


LOSS = Loss(
    help="pixels near in place and colour have one class: dense Gaussian pairs, by the permutohedral lattice",
    settings=DenseCRFSettings,
    inputs=("logit", "rgb", "valid"),
    function=function,
)
