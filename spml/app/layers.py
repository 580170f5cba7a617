"""What lies over a photo: labels with their margin, strokes, the main directions of the features."""

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cv2
import numpy as np

from spml.app.images import reduced
from spml.app.labels import resized
from spml.app.state import Drawing
from spml.app.strokes import paint, scaled
from spml.classes import MAX_CLASSES

PLANE_SIDE = 256  # pixels: finer than the cells of the features


@dataclass(frozen=True)
class Labels:
    """What an image is labelled with: ids of the classes of that time, 254 none."""

    label: np.ndarray  # (h, w) uint8, of the photo's size
    margin: np.ndarray  # (h, w) float32, 0..1

    @cached_property
    def sure(self) -> float:
        """The mean margin."""
        return float(self.margin.mean())


def planes(found: Labels, slots: Sequence[int]) -> np.ndarray:
    """(K, h, w) float32 in 0..1, at most PLANE_SIDE long: how likely labels are, as far as label and margin tell.

    Args:
        found: ids of classes.
        slots: the plane of each class.
    """
    size = reduced((found.label.shape[0], found.label.shape[1]), PLANE_SIDE)
    label, margin = resized(found.label, size), resized(found.margin, size)
    made = np.zeros((max(slots, default=-1) + 1, *size), np.float32)
    for index, slot in enumerate(slots):
        made[slot] = np.where(label == index, (1 + margin) / 2, 0)  # p - q where only two classes compete: 2 p - 1
    return made


class Recent(OrderedDict[Hashable, Any]):
    """The last results, at most `size` of them."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def put(self, key: Hashable, value: Any) -> Any:
        """Keep a value, and return it."""
        self[key] = value
        self.move_to_end(key)
        while len(self) > self.size:
            self.popitem(last=False)
        return value


def paint_small(drawing: Drawing, ids: dict[str, int], ratio: float, photo: np.ndarray) -> np.ndarray:
    """What is drawn on an image, at the photo's size."""
    return paint([scaled(stroke, ratio) for stroke in drawing.strokes], ids, (photo.shape[0], photo.shape[1]))


def with_kept(found: Labels, kept: np.ndarray, strokes: np.ndarray) -> Labels:
    """The labels, but `kept` (h, w) where it is a class and no stroke lies."""
    stays = (kept < MAX_CLASSES) & (strokes >= MAX_CLASSES)
    return Labels(np.where(stays, kept, found.label), np.where(stays, np.float32(1), found.margin))


def main_colours(field: Any, size: tuple[int, int]) -> np.ndarray:
    """(H, W, 3) uint8: the three main directions of features (a `Field`) as red, green and blue, enlarged to a size."""
    grid = field.size[::-1]
    planes = [cv2.resize(plane, grid) for level in field.levels[:-1] for plane in level.float().cpu().numpy()]
    rows = np.stack(planes, -1).reshape(-1, len(planes))
    rows = rows - rows.mean(0)
    _, direction = np.linalg.eigh(rows.T @ rows)
    colour = rows @ direction[:, :-4:-1]
    low, high = np.percentile(colour, [1, 99], axis=0)
    colour = np.clip((colour - low) / np.maximum(high - low, 1e-9), 0, 1).reshape(*field.size, -1)
    return cv2.resize((255 * colour).astype(np.uint8), size[::-1], interpolation=cv2.INTER_LINEAR)
