"""The prediction for one image: labels, probabilities, segments."""

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image

from spml.data.samples import IGNORE
from spml.errors import UserError
from spml.files import write_atomically
from spml.visualize.figures import overlay
from spml.visualize.palette import class_palette


class Prediction:
    """The labels of one image of (H, W) pixels, and their basis.

    Args:
        label: (H, W) uint8, class ids; 254 where the model gives no class.
        probability: (K, H, W) float32, or a function that computes it on first use: for a photograph, the scores of all
            classes take far more memory than the labels.
        segments: (H, W) integers, or a function that makes them; None where the image was not cut into segments.
        classes: K names, or none.
        image: (H, W, 3) uint8, for `overlay`.
        margin: (H, W) float32, if it is known already.
        background: the class that is drawn black; None: no class is.
    """

    def __init__(
        self,
        label: np.ndarray,
        probability: np.ndarray | Callable[[], np.ndarray],
        segments: np.ndarray | Callable[[], np.ndarray] | None = None,
        classes: Sequence[str] = (),
        image: np.ndarray | None = None,
        margin: np.ndarray | None = None,
        background: int | None = 0,
    ) -> None:
        self.label, self.classes, self.image, self.background = label, tuple(classes), image, background
        self._probability, self._segments, self._margin = probability, segments, margin

    @cached_property
    def probability(self) -> np.ndarray:
        """(K, H, W) float32."""
        return self._probability() if callable(self._probability) else self._probability

    @cached_property
    def segments(self) -> np.ndarray | None:
        """(H, W) integers, the segment of each pixel; None where the image was not cut into segments."""
        return self._segments() if callable(self._segments) else self._segments

    @cached_property
    def margin(self) -> np.ndarray:
        """(H, W) float32 in 0..1: the largest probability minus the second, 1 where there is one class only."""
        if self._margin is not None:
            return self._margin
        if len(self.probability) < 2:
            return np.ones(self.label.shape, np.float32)
        second, first = np.partition(self.probability, -2, axis=0)[-2:]
        return first - second

    def save(self, path: str | Path) -> None:
        """Write the labels as a PNG of 8 bits with VOC's palette, which keeps the ids.

        Raises:
            UserError: a path that does not end in .png, or cannot be written.
        """
        if Path(path).suffix.lower() != ".png":
            raise UserError(f"{path}: expected a file name that ends in .png, which keeps class ids as they are")
        picture = Image.fromarray(self.label.astype(np.uint8))
        picture.putpalette(class_palette(self.background).tobytes())
        write_atomically(path, lambda file: picture.save(file, format="PNG"))

    def overlay(self, alpha: float = 0.6) -> Image.Image:
        """The colours of the classes over the image; without an image, the colours alone.

        Args:
            alpha: weight of the colour, 0..1.
        """
        if not 0 <= alpha <= 1:
            raise UserError(f"alpha: expected 0 to 1, got {alpha}")
        image = np.full((*self.label.shape, 3), IGNORE, np.uint8) if self.image is None else self.image
        weight = 1.0 if self.image is None else alpha
        return Image.fromarray(overlay(image, self.label, weight, self.background))
