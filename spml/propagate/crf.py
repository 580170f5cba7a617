"""Boundaries by a fully connected CRF (Kraehenbuehl and Koltun, 2011), through the optional `pydensecrf`."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from spml.cli import UserError

SMALLEST = 1e-5  # probability whose energy an impossible class is given


@dataclass(frozen=True)
class DenseCRF:
    """Refines the class probabilities of one image by mean-field inference.

    Energy: -log p per pixel, and for each pair of pixels of different labels
    pos_w exp(-|dxy|^2 / 2 pos_xy_std^2) + bi_w exp(-|dxy|^2 / 2 bi_xy_std^2 - |drgb|^2 / 2 bi_rgb_std^2).

    Args:
        iterations: of mean field.
        pos_w, pos_xy_std: weight and range in pixels of the smoothness kernel.
        bi_w, bi_xy_std, bi_rgb_std: weight, range in pixels and range in grey values of the appearance kernel.
    """

    iterations: int = 10
    pos_w: float = 3
    pos_xy_std: float = 1
    bi_w: float = 4
    bi_xy_std: float = 67
    bi_rgb_std: float = 3

    def __call__(self, image: np.ndarray | Tensor, probability: np.ndarray | Tensor) -> np.ndarray:
        """The refined probabilities.

        Args:
            image: (H, W, 3) uint8, RGB.
            probability: (K, H, W) float, K >= 1, clipped to [1e-5, 1]; columns need not sum to one.

        Returns:
            (K, H, W) float32, which sums to one over K.

        Raises:
            UserError: where pydensecrf is missing. ValueError: for shapes or types that do not fit.
        """
        image, probability = _array(image), _array(probability)
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise ValueError(f"expected image (H, W, 3) uint8, got {image.shape} {image.dtype}")
        if probability.ndim != 3 or len(probability) == 0 or probability.shape[1:] != image.shape[:2]:
            raise ValueError(f"expected probability (K, {image.shape[0]}, {image.shape[1]}), got {probability.shape}")
        classes, height, width = probability.shape
        if classes == 1 or probability.size == 0:  # nothing to decide
            return np.ones(probability.shape, np.float32)
        field = load_pydensecrf().DenseCRF2D(width, height, classes)
        energy = -np.log(np.clip(probability.astype(np.float32), SMALLEST, 1))
        field.setUnaryEnergy(np.ascontiguousarray(energy.reshape(classes, -1)))
        field.addPairwiseGaussian(sxy=self.pos_xy_std, compat=self.pos_w)
        field.addPairwiseBilateral(
            sxy=self.bi_xy_std, srgb=self.bi_rgb_std, rgbim=np.ascontiguousarray(image), compat=self.bi_w
        )
        refined = np.array(field.inference(self.iterations), np.float32)
        return refined.reshape(classes, height, width)


def _array(value: np.ndarray | Tensor) -> np.ndarray:
    """`value` as a numpy array on the host."""
    return value.detach().cpu().numpy() if isinstance(value, Tensor) else np.asarray(value)


def load_pydensecrf() -> Any:
    """The module that does the work. Raises UserError where it is missing."""
    try:
        import pydensecrf.densecrf
    except ImportError:
        raise UserError("the CRF needs the package pydensecrf: install it by `pip install -e .[crf]`") from None
    return pydensecrf.densecrf
