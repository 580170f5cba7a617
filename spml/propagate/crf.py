"""Refines boundaries by a fully connected CRF (Kraehenbuehl and Koltun, 2011), in torch or the optional pydensecrf."""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spml.errors import UserError
from spml.propagate.lattice import Lattice, build_lattice

SMALLEST = 1e-5  # probability whose energy an impossible class is given
SMALLEST_RANGE = 0.001  # below it, coordinates in float32 would hold no fraction
BACKENDS = ("auto", "pydensecrf", "torch")
CPU = torch.device("cpu")


@dataclass(frozen=True)
class DenseCRF:
    """Refines the class probabilities of images by mean-field inference.

    Energy: -log p per pixel, and for each pair of pixels of different labels
    pos_w exp(-|dxy|^2 / 2 pos_xy_std^2) + bi_w exp(-|dxy|^2 / 2 bi_xy_std^2 - |drgb|^2 / 2 bi_rgb_std^2),
    both kernels normalised symmetrically and filtered on the permutohedral lattice.

    Args:
        iterations: of mean field.
        pos_w, pos_xy_std: weight and range in pixels of the smoothness kernel.
        bi_w, bi_xy_std, bi_rgb_std: weight, range in pixels and range in grey values of the appearance kernel.
        backend: "pydensecrf" (CPU only); "torch" (any device; results agree to about 1e-6); or "auto": pydensecrf on
            the CPU where it is installed, else torch.
        device: where to compute; None: where the probabilities are.

    Raises:
        UserError: an unknown backend, ranges below 0.001, or iterations below zero.
    """

    iterations: int = 10
    pos_w: float = 3
    pos_xy_std: float = 1
    bi_w: float = 4
    bi_xy_std: float = 67
    bi_rgb_std: float = 3
    backend: str = "auto"
    device: torch.device | None = None

    def __post_init__(self) -> None:
        if self.backend not in BACKENDS:
            raise UserError(f"backend of the CRF: expected one of {', '.join(BACKENDS)}, got {self.backend!r}")
        if self.iterations < 0:
            raise UserError(f"iterations of the CRF: expected at least 0, got {self.iterations}")
        for name in ("pos_xy_std", "bi_xy_std", "bi_rgb_std"):
            if not getattr(self, name) >= SMALLEST_RANGE:
                raise UserError(f"{name} of the CRF: expected at least {SMALLEST_RANGE}, got {getattr(self, name)}")
        for name in ("pos_w", "bi_w"):
            if not 0 <= getattr(self, name) < math.inf:
                raise UserError(f"{name} of the CRF: expected a number >= 0, got {getattr(self, name)}")

    def __call__(self, image: np.ndarray | Tensor, probability: np.ndarray | Tensor) -> np.ndarray:
        """The refined probabilities of one image.

        Args:
            image: (H, W, 3) uint8, RGB.
            probability: (K, H, W) float, K >= 1, clipped to [1e-5, 1]; columns need not sum to one.

        Returns:
            (K, H, W) float32, which sums to one over K.

        Raises:
            UserError: where pydensecrf is asked for and missing. ValueError: for shapes or types that do not fit.
        """
        return self.batch(image[None], probability[None])[0].cpu().numpy()

    def label(self, image: np.ndarray | Tensor, probability: np.ndarray | Tensor) -> np.ndarray:
        """The class (H, W) uint8 of the largest refined probability, the first of equal ones. Arguments: as a call."""
        return self.batch(image[None], probability[None])[0].argmax(0).to(torch.uint8).cpu().numpy()

    @torch.no_grad()
    def batch(self, image: np.ndarray | Tensor, probability: np.ndarray | Tensor) -> Tensor:
        """The refined probabilities of images of one size; in torch on a GPU all at once, about 1 kB of memory a pixel.

        Args:
            image: (B, H, W, 3) uint8, RGB.
            probability: (B, K, H, W) float, as in a call.

        Returns:
            (B, K, H, W) float32 on the device of the computation.

        Raises:
            UserError: where pydensecrf is asked for and missing. ValueError: for shapes or types that do not fit.
        """
        if image.ndim != 4 or image.shape[3] != 3 or image.dtype not in (np.uint8, torch.uint8):
            raise ValueError(f"expected image (H, W, 3) uint8, got {tuple(image.shape[1:])} {image.dtype}")
        count, height, width, _ = image.shape
        shape = tuple(probability.shape)
        if len(shape) != 4 or shape[1] == 0 or (shape[0], *shape[2:]) != (count, height, width):
            raise ValueError(f"expected probability (K, {height}, {width}) of {count} images, got {shape}")
        device = self._device(probability)
        if shape[1] == 1 or 0 in shape:  # nothing to decide
            return torch.ones(shape, device=device)
        if self._backend(device) == "torch":
            size = 1 if device.type == "cpu" else count  # values of several images leave the cache and the heap
            pairs = zip(_tensor(image, device).split(size), _tensor(probability, device).split(size), strict=True)
            return torch.cat([self.mean_field(*pair) for pair in pairs])
        arrays = zip(_array(image), _array(probability), strict=True)
        return torch.from_numpy(np.stack([self._by_pydensecrf(*pair) for pair in arrays]))

    def with_backend(self) -> "DenseCRF":
        """The same with a definite backend for its device. Prints a line where torch stands in for pydensecrf.

        Raises:
            UserError: where pydensecrf is asked for and missing.
        """
        device = self.device or CPU
        chosen = self._backend(device)
        if chosen == "pydensecrf":
            load_pydensecrf()
        elif self.backend == "auto" and device.type == "cpu":
            print("CRF: pydensecrf is not installed, so torch computes it, with the same result")
        return replace(self, backend=chosen)

    def _device(self, probability: np.ndarray | Tensor) -> torch.device:
        if self.device is not None:
            return self.device
        return probability.device if isinstance(probability, Tensor) else CPU

    def _backend(self, device: torch.device) -> str:
        if self.backend != "auto":
            return self.backend
        return "pydensecrf" if device.type == "cpu" and has_pydensecrf() else "torch"

    def mean_field(self, image: Tensor, probability: Tensor) -> Tensor:
        """(B, H, W, 3) uint8 and (B, K, H, W) -> (B, K, H, W), all at once. The host waits only for `kernels`."""
        count, classes, height, width = probability.shape
        kernels = self.kernels(image)
        score = probability.float().clamp(SMALLEST, 1).log().permute(0, 2, 3, 1).reshape(-1, classes)  # (N, K)
        refined = score.softmax(1)
        for _ in range(self.iterations):
            total = score
            for kernel in kernels:
                total = kernel(refined).add_(total)
            refined = total.softmax(1)
        return refined.view(count, height, width, classes).permute(0, 3, 1, 2).contiguous()

    def kernels(self, image: Tensor) -> list[Lattice]:
        """The smoothness and the appearance kernel of (B, H, W, 3) uint8, times their weights; none of weight zero."""
        count, height, width, _ = image.shape
        y, x = (torch.arange(size, device=image.device).float() for size in (height, width))
        place = torch.stack([x.expand(height, width), y[:, None].expand(height, width)], 2).expand(count, -1, -1, -1)
        pairs = [
            (self.pos_w, place, [self.pos_xy_std] * 2),
            (self.bi_w, torch.cat([place, image.float()], 3), [self.bi_xy_std] * 2 + [self.bi_rgb_std] * 3),
        ]
        # divide by a tensor: for a number, CUDA multiplies by its reciprocal, which rounds differently
        return [
            build_lattice((feature / feature.new_tensor(std)).flatten(1, 2)).normalised(weight)
            for weight, feature, std in pairs
            if weight
        ]

    def _by_pydensecrf(self, image: np.ndarray, probability: np.ndarray) -> np.ndarray:
        """One image."""
        classes, height, width = probability.shape
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


def _tensor(value: np.ndarray | Tensor, device: torch.device) -> Tensor:
    """`value` as a tensor on `device`."""
    return value.to(device) if isinstance(value, Tensor) else torch.tensor(np.ascontiguousarray(value), device=device)


def has_pydensecrf() -> bool:
    """Whether pydensecrf can be used."""
    try:
        load_pydensecrf()
    except UserError:
        return False
    return True


def load_pydensecrf() -> Any:
    """Import pydensecrf. Raises UserError where it is missing."""
    try:
        import pydensecrf.densecrf
    except ImportError:
        raise UserError(
            "this backend of the CRF needs the package pydensecrf: install it by `pip install -e .[crf]`, "
            "or choose --crf_backend torch"
        ) from None
    return pydensecrf.densecrf
