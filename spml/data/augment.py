"""Augmentation: pure functions on numpy arrays. Geometry runs on uint8; normalisation and padding come last.

An image is (H, W, 3) uint8 RGB, a label (H, W) uint8. Images are resized bilinearly, labels to the nearest pixel.
All random numbers come from the generator that the caller passes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

from spml.data.samples import IGNORE

# Mirroring a person swaps left and right: hands, feet, upper and lower legs and arms (of the 15 DensePose classes).
DENSEPOSE_SWAP = np.arange(256, dtype=np.uint8)
DENSEPOSE_SWAP[2:14] = [3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12]
DENSEPOSE_SWAP.flags.writeable = False

Labels = tuple[np.ndarray, ...]


class Augmented(NamedTuple):
    """What `augment` makes of a sample; arrays are contiguous."""

    image: np.ndarray  # (h, w, 3), the part that the crop keeps
    semantic: np.ndarray  # (h, w)
    instance: np.ndarray  # (h, w)
    start: tuple[int, int]  # (top, left) of the part in the crop: (0, 0) unless the image is smaller than it
    mirrored: bool


@dataclass(frozen=True)
class Augmentation:
    """The recipe of `augment`, in this order: longest side, scale, crop, mirror, grey, blur, normalisation, padding."""

    crop_size: tuple[int, int]  # (h, w)
    image_size: int = 0  # the longest side before scaling; 0 or less: as it is
    scale: tuple[float, float] | None = None
    random_crop: bool = True  # False: the centre
    mirror: bool = True
    swap_parts: bool = False  # DensePose
    grey: float = 0.0  # probability
    blur: float = 0.0  # probability


def augment(
    image: np.ndarray, semantic: np.ndarray, instance: np.ndarray, how: Augmentation, rng: np.random.Generator
) -> Augmented:
    """Everything but normalisation and padding."""
    labels: Labels = (semantic, instance)
    if how.image_size > 0:
        image, labels = resize_longest_side(image, labels, how.image_size)
    if how.scale is not None:
        image, labels = random_scale(image, labels, rng, *how.scale)
    window = draw_window(image.shape[:2], how.crop_size, rng if how.random_crop else None)
    image, *parts = (cut(array, window, how.crop_size) for array in (image, *labels))
    top, left = max(0, -window[0]), max(0, -window[1])
    mirrored = how.mirror and rng.random() < 0.5
    if mirrored:
        image, parts[0], parts[1] = mirror(image, parts[0], parts[1], swap_parts=how.swap_parts)
        left = how.crop_size[1] - left - image.shape[1]
    if how.grey and rng.random() < how.grey:
        image = to_grey(image)
    if how.blur and rng.random() < how.blur:
        image = gaussian_blur(image, rng.uniform(0.1, 5.0))
    image, semantic, instance = map(np.ascontiguousarray, (image, *parts))
    return Augmented(image, semantic, instance, (top, left), mirrored)


def mirror(
    image: np.ndarray, semantic: np.ndarray, instance: np.ndarray, *, swap_parts: bool = False
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Left to right. `swap_parts` also swaps the left and right body parts of DensePose; other values stay."""
    semantic = semantic[:, ::-1]
    return image[:, ::-1], DENSEPOSE_SWAP[semantic] if swap_parts else semantic, instance[:, ::-1]


def resize(image: np.ndarray, labels: Sequence[np.ndarray], size: tuple[int, int]) -> tuple[np.ndarray, Labels]:
    """Resize to `size` (h, w)."""
    if image.shape[:2] == size:
        return image, tuple(labels)
    width_height = size[::-1]
    return (
        cv2.resize(image, width_height, interpolation=cv2.INTER_LINEAR),
        tuple(cv2.resize(label, width_height, interpolation=cv2.INTER_NEAREST) for label in labels),
    )


def resize_longest_side(image: np.ndarray, labels: Sequence[np.ndarray], longest: int) -> tuple[np.ndarray, Labels]:
    """Keep the proportions and make the longest side `longest` pixels."""
    return _resize_by(image, labels, longest / max(image.shape[:2]))


def random_scale(
    image: np.ndarray, labels: Sequence[np.ndarray], rng: np.random.Generator, low: float, high: float
) -> tuple[np.ndarray, Labels]:
    """Scale both sides by one factor, uniform in [low, high)."""
    return _resize_by(image, labels, rng.uniform(low, high))


def _resize_by(image: np.ndarray, labels: Sequence[np.ndarray], factor: float) -> tuple[np.ndarray, Labels]:
    height, width = (max(1, round(side * factor)) for side in image.shape[:2])
    return resize(image, labels, (height, width))


def draw_window(shape: tuple[int, ...], crop_size: tuple[int, int], rng: np.random.Generator | None) -> tuple[int, int]:
    """Where the crop starts, (top, left): uniform over all places, or the centre without `rng`.

    Negative where the image is smaller than the crop: the whole image then lies somewhere inside the crop.
    """
    window = []
    for side, crop in zip(shape, crop_size, strict=True):
        slack = side - crop
        window.append((slack // 2) if rng is None else int(rng.integers(min(0, slack), max(0, slack) + 1)))
    return window[0], window[1]


def cut(array: np.ndarray, window: tuple[int, int], crop_size: tuple[int, int]) -> np.ndarray:
    """The part of `array` (H, W, ...) that lies in the crop starting at `window`: a view, no padding."""
    top, left = window
    return array[max(0, top) : top + crop_size[0], max(0, left) : left + crop_size[1]]


def pad_label(label: np.ndarray, start: tuple[int, int], crop_size: tuple[int, int]) -> np.ndarray:
    """Put a (h, w) label at `start` (top, left) into a crop filled with 255. Returns int64 `crop_size`."""
    padded = np.full(crop_size, IGNORE, np.int64)
    padded[start[0] : start[0] + label.shape[0], start[1] : start[1] + label.shape[1]] = label
    return padded


def to_grey(image: np.ndarray) -> np.ndarray:
    """Luminance in all three channels."""
    return np.repeat(cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2)


def gaussian_blur(image: np.ndarray, sigma: float) -> np.ndarray:
    """A 5x5 Gaussian of standard deviation `sigma`."""
    return cv2.GaussianBlur(np.ascontiguousarray(image), (5, 5), sigma)


def normalise(
    image: np.ndarray,
    means: Sequence[float],
    stds: Sequence[float],
    start: tuple[int, int] = (0, 0),
    size: tuple[int, int] | None = None,
) -> np.ndarray:
    """Put `(image / 255 - mean) / std` at `start` (top, left) into zeros of `size`; 0 is the mean colour.

    Args:
        image: (H, W, 3) uint8.
        size: (h, w) of the result; the image's own by default.
    Returns:
        (3, h, w) float32.
    """
    height, width = image.shape[:2]
    top, left = start
    padded = np.zeros((3, *(size or (height, width))), np.float32)
    levels = np.arange(256, dtype=np.float32) / np.float32(255)
    for channel in range(3):
        table = (levels - np.float32(means[channel])) / np.float32(stds[channel])
        padded[channel, top : top + height, left : left + width] = table[image[..., channel]]
    return padded
