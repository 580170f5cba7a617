"""Pictures of class activation maps (CAMs): heat over the image."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from spml.files import write_atomically
from spml.visualize.figures import draw_borders, grid, overlay, resize, width_at

STOPS = (0.0, 0.25, 0.5, 0.75, 1.0)
COLOURS = np.array([[20, 20, 90], [30, 110, 200], [60, 200, 140], [250, 220, 60], [215, 35, 30]], float)  # cold to hot
WHITE = (255, 255, 255)


def heat(cam: np.ndarray) -> np.ndarray:
    """Values in [0, 1] as colours from blue by green and yellow to red: (H, W) float -> (H, W, 3) uint8."""
    channels = [np.interp(cam, STOPS, COLOURS[:, channel]) for channel in range(3)]
    return np.rint(np.stack(channels, axis=-1)).astype(np.uint8)


def heat_overlay(image: np.ndarray, cam: np.ndarray, alpha: float = 0.6) -> np.ndarray:
    """Heat over the image's grey values.

    Args:
        image: (H, W, 3) uint8.
        cam: (H, W) float in [0, 1].
        alpha: weight of the heat, 0..1.

    Returns:
        (H, W, 3) uint8.
    """
    grey = image.mean(2, keepdims=True)
    return np.rint((1 - alpha) * grey + alpha * heat(cam)).astype(np.uint8)


def cam_picture(
    image: np.ndarray,
    cams: Mapping[int, np.ndarray],
    labels: Mapping[str, np.ndarray],
    path: str | Path,
    classes: Sequence[str],
    cell_height: int = 200,
    background: int | None = 0,
) -> None:
    """Write a row of pictures: the image, the heat of each class, and labels made of them over the image.

    Args:
        image: (H, W, 3) uint8.
        cams: index among the classes without the background to (H, W) float in [0, 1].
        labels: title to (H, W) class ids, 254 unlabelled, 255 ignored.
        path: the PNG file, written in one step.
        classes: K names.
        cell_height: of each picture, in pixels.
        background: the class that has no CAM and is black; None: every class has one.
    """
    width = width_at(cell_height, image)
    small = resize(image, cell_height, width)
    cells, titles = [small], ["image"]
    objects = [name for index, name in enumerate(classes) if index != background]
    for index, cam in sorted(cams.items()):
        cells.append(resize(heat_overlay(image, cam), cell_height, width))
        titles.append(objects[index])
    for title, label in labels.items():
        label = resize(label, cell_height, width)
        cells.append(draw_borders(overlay(small, label, background=background), label, WHITE))
        titles.append(title)
    sheet = Image.fromarray(grid([cells], titles, cell_height))
    write_atomically(path, lambda file: sheet.save(file, "PNG", optimize=True))
