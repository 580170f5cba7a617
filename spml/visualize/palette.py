"""The colours of class ids."""

import numpy as np

from spml.classes import UNLABELLED


def voc_palette(size: int = 256) -> np.ndarray:
    """The colours that PASCAL VOC gives to ids: bits 0, 3, 6 of the id are the highest bits of red, 1, 4, 7 of green,
    2, 5 of blue. 0 is black, 255 the cream of VOC's borders.

    Args:
        size: how many, 1..256.

    Returns:
        (size, 3) uint8.
    """
    index = np.arange(size)
    palette = np.zeros((size, 3), dtype=np.uint8)
    for place in range(3):
        for channel in range(3):
            bit = (index >> (3 * place + channel)) & 1
            palette[:, channel] |= (bit << (7 - place)).astype(np.uint8)
    return palette


def class_palette(background: int | None = 0) -> np.ndarray:
    """VOC's colours with black for the background alone: without one, each class below 254 has the colour of the next.

    Returns:
        (256, 3) uint8.
    """
    palette = voc_palette()
    if background is None:
        palette[:UNLABELLED] = palette[1 : UNLABELLED + 1].copy()
    else:
        palette[[0, background]] = palette[[background, 0]]
    return palette


def colourise(label: np.ndarray, background: int | None = 0) -> np.ndarray:
    """The colour of each id: (H, W) integers in 0..255 -> (H, W, 3) uint8; see `class_palette`."""
    return class_palette(background)[label]
