"""Views of a test image: its sizes, its mirror image, and the crops that slide over it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

# Default limit of the pixels in a view. K-means on embeddings takes about 5 KB a pixel, a map of 21 logits about
# 0.5 KB, a CRF of 21 classes 1.2 KB in its own process.
MAX_PIXELS = {"retrieval": 1_000_000, "softmax": 4_000_000, "CRF": 2_000_000}


@dataclass(frozen=True)
class ViewPlan:
    """Which views of an image the network sees.

    Args:
        scales: of the image. (1.0,) is single-scale inference; `image_size` counts only then, as in the release.
        flip: also use the mirror image of each view, in the same batch.
        image_size: longest side of the single scale; 0 or less keeps the image as it is.
        crop_size, stride: (h, w) of the sliding crop and of its largest step. A crop of (0, 0), which the release does
            not have, is the whole view without padding, so the network's global pooling sees no padding.
        max_pixels: a view with more pixels is made smaller, which bounds the memory; 0: no bound.
        base_size: the longest side that `scales` multiply where image_size does not count; 0: the image's own. Networks
            trained on resized images (train.image_size, which the release does not have) need it.
    """

    scales: tuple[float, ...]
    flip: bool
    image_size: int
    crop_size: tuple[int, int]
    stride: tuple[int, int]
    max_pixels: int = 0
    base_size: int = 0

    @classmethod
    def from_config(cls, config: Any, max_pixels: int = 0) -> "ViewPlan":
        """The plan of the `test` section of a config, on the scale of its training images."""
        test = config.test
        crop, stride = (int(test.crop_size[0]), int(test.crop_size[1])), (int(test.stride[0]), int(test.stride[1]))
        base = max(0, int(config.train.image_size))
        return cls(tuple(test.scales or [1.0]), bool(test.flip), int(test.image_size), crop, stride, max_pixels, base)

    @property
    def single_scale(self) -> bool:
        return self.scales == (1.0,)

    def output_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """(h, w) of the class scores of an image of (H, W): the view's for a single scale, else the image's."""
        if self.single_scale and self.image_size > 0:
            return self.bounded(_longest_side(size, self.image_size))
        return self.bounded(size)

    def view_sizes(self, size: tuple[int, int]) -> list[tuple[int, int]]:
        """(h, w) of each scale's view of an image of (H, W), rounded down as released."""
        if self.single_scale and (self.image_size > 0 or not self.base_size):
            return [self.output_size(size)]
        height, width = _longest_side(size, self.base_size) if self.base_size else size
        return [self.bounded((max(1, int(scale * height)), max(1, int(scale * width)))) for scale in self.scales]

    def bounded(self, size: tuple[int, int]) -> tuple[int, int]:
        """`size`, made smaller in its proportions where it exceeds max_pixels."""
        pixels = size[0] * size[1]
        if not 0 < self.max_pixels < pixels:
            return size
        ratio = (self.max_pixels / pixels) ** 0.5
        return max(1, int(ratio * size[0])), max(1, int(ratio * size[1]))

    def is_bounded(self, size: tuple[int, int]) -> bool:
        """Whether a view of an image of (H, W) is made smaller by max_pixels."""
        free = replace(self, max_pixels=0)
        return [free.output_size(size), *free.view_sizes(size)] != [self.output_size(size), *self.view_sizes(size)]

    def views(self, image: Tensor) -> Iterator[Tensor]:
        """The views of `image` (3, H, W), normalised: a batch (1 or 2, 3, h, w) a scale, the mirror image second."""
        for size in self.view_sizes((image.shape[1], image.shape[2])):
            view = resize_image(image, size)
            yield torch.stack([view, view.flip(-1)]) if self.flip else view[None]


def _longest_side(size: tuple[int, int], longest: int) -> tuple[int, int]:
    ratio = min(longest / size[0], longest / size[1])
    return max(1, int(ratio * size[0])), max(1, int(ratio * size[1]))


def resize_image(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear (3, H, W) float -> (3, *size), without smoothing, as released."""
    if image.shape[1:] == size:
        return image
    pixels = np.ascontiguousarray(image.permute(1, 2, 0).numpy())
    return torch.from_numpy(cv2.resize(pixels, size[::-1], interpolation=cv2.INTER_LINEAR)).permute(2, 0, 1)


def to_pixels(image: Tensor, means: Sequence[float], stds: Sequence[float]) -> np.ndarray:
    """A normalised image (3, H, W) as (H, W, 3) uint8 for the CRF, computed and rounded down as released.

    Rounding down makes some values one level lower than in the file. With the exact values, up to 0.5 % of a refined
    image's pixels would differ from the release.
    """
    pixels = image.permute(1, 2, 0).numpy().copy()
    pixels *= np.asarray(stds)
    pixels += np.asarray(means)
    return (pixels * 255).clip(0, 255).astype(np.uint8)


def resize_label(label: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(H, W) uint8 or uint16 to `size`, each pixel the nearest, rounded down as released."""
    return label if label.shape == size else cv2.resize(label, size[::-1], interpolation=cv2.INTER_NEAREST)


def crop_ends(length: int, crop: int, stride: int) -> list[int]:
    """The ends of the crops along an axis of `length` >= `crop` pixels.

    They are evenly spread, at most `stride` apart and rounded down; the last is at the border.
    """
    count = -(-(length - crop) // stride) + 1
    return np.linspace(crop, length, count, dtype=np.int64).tolist()


@torch.no_grad()
def slide(
    image: Tensor,
    crop_size: tuple[int, int],
    stride: tuple[int, int],
    apply: Callable[[Tensor], Tensor],
    device: torch.device | str = "cpu",
) -> Tensor:
    """Call `apply` on the crops of an image, and average the maps where crops overlap.

    Args:
        image: (B, 3, H, W), normalised. An image smaller than the crop is padded with zeros below and to the right.
        crop_size, stride: of a ViewPlan.
        apply: (B, 3, *crop_size) on `device` -> (B, D, *crop_size), one crop's map at a time. It may leave out rows
            below and columns right of the image, which are padding.

    Returns:
        (B, D, max(H, crop height), max(W, crop width)) on `device`, with the padding; the caller cuts it off. It is
        smaller where there is one crop and `apply` left out padding.
    """
    if crop_size == (0, 0):
        return apply(image.to(device))
    below, right = (max(0, crop - side) for crop, side in zip(crop_size, image.shape[-2:], strict=True))
    image = F.pad(image, (0, right, 0, below))
    height, width = image.shape[-2:]
    total, count = torch.empty(0, device=device), torch.zeros(height, width, device=device)
    bottoms, ends = crop_ends(height, crop_size[0], stride[0]), crop_ends(width, crop_size[1], stride[1])
    for bottom in bottoms:
        for end in ends:
            rows, columns = slice(bottom - crop_size[0], bottom), slice(end - crop_size[1], end)
            values = apply(image[..., rows, columns].to(device))
            if len(bottoms) == len(ends) == 1:
                return values
            rows, columns = (
                slice(s.start, s.start + n) for s, n in zip((rows, columns), values.shape[-2:], strict=True)
            )
            if total.numel() == 0:
                layout = torch.channels_last if values.stride(1) == 1 else torch.contiguous_format
                shape = (*values.shape[:2], height, width)
                total = torch.empty(shape, dtype=values.dtype, device=device, memory_format=layout).zero_()
            total[..., rows, columns] += values
            count[rows, columns] += 1
    return total.div_(count.clamp_(min=1))
