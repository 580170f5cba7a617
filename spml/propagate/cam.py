"""Class activation maps (CAMs) as scores of all classes, and the labels that thresholds make of them."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

ALPHA = 6.0
TAG_THRESHOLD, BOX_THRESHOLD = 0.2, 0.5


def foreground_classes(num_classes: int, background: int | None = 0) -> list[int]:
    """The classes that have CAMs, in the order of their indices in CAM files: all but the background.

    1 to K - 1 with background 0, as released; all K where no class is background (None).
    """
    return [label for label in range(num_classes) if label != background]


def cam_scores(
    cams: Mapping[int, np.ndarray],
    num_classes: int,
    size: tuple[int, int],
    alpha: float = ALPHA,
    background: int | None = 0,
) -> Tensor:
    """The scores of all classes; the background's is (1 - max of the others)^alpha.

    Args:
        cams: index among `foreground_classes` to (H, W) float in [0, 1]. A missing class has zeros; without any CAM the
            background is 1 everywhere.
        num_classes: K, with the background.
        size: (H, W).
        alpha: the larger, the smaller the background.
        background: its class; None: no class is background, and all scores are those of CAMs.

    Returns:
        (K, H, W) float32.

    Raises:
        ValueError: an index that no foreground class has, or a CAM of another size.
    """
    score, classes = torch.zeros(num_classes, *size), foreground_classes(num_classes, background)
    for index, cam in cams.items():
        if not 0 <= index < len(classes):
            raise ValueError(f"expected foreground class indexes 0 to {len(classes) - 1}, got {index}")
        if cam.shape != size:
            raise ValueError(f"expected a CAM of {size} as the image, got {cam.shape} of class {index}")
        score[classes[index]] = torch.from_numpy(np.asarray(cam, np.float32))
    if background is not None:
        score[background] = (1 - score[classes].amax(0)).pow(alpha)
    return score


def tag_label(
    cams: Mapping[int, np.ndarray],
    num_classes: int,
    size: tuple[int, int],
    *,
    alpha: float = ALPHA,
    threshold: float = TAG_THRESHOLD,
    unlabelled: int = 254,
    background: int | None = 0,
) -> np.ndarray:
    """The best class of each pixel, background included; `unlabelled` where its score is under the threshold.

    A pixel whose highest CAM is m has the score max(m, (1 - m)^alpha). At alpha 6 that is never under 0.222, so the
    released threshold of 0.2 labels every pixel; larger ones leave pixels out. Where no class is background, pixels
    without a CAM above zero are unlabelled at any threshold.

    Args:
        cams, num_classes, size, alpha, background: as in `cam_scores`.

    Returns:
        (H, W) uint8.
    """
    best, label = cam_scores(cams, num_classes, size, alpha, background).max(0)
    return torch.where((best < threshold) | (best <= 0), unlabelled, label).to(torch.uint8).numpy()


def box_label(
    cams: Mapping[int, np.ndarray],
    boxes: Sequence[tuple[int, int, int, int, int]],
    size: tuple[int, int],
    *,
    threshold: float = BOX_THRESHOLD,
    unlabelled: int = 254,
    background: int | None = 0,
) -> np.ndarray:
    """Background outside every box; inside, the class of the box where its CAM is high.

    The CAM of a box's class is rescaled to 0..1 inside the box. Pixels at or over the threshold get the class; where
    several boxes overlap, that of the highest value. The other pixels of a box are `unlabelled`, as is a whole box
    whose class has no CAM or a flat one.

    Args:
        cams: as in `cam_scores`; those of classes without a box do not count.
        boxes: (class, x0, y0, x1, y1) each, x1 and y1 outside the box. Parts outside the image do not count.
        size: (H, W).
        background: its class; None: no class is background, and pixels outside every box are unlabelled.

    Returns:
        (H, W) uint8.
    """
    outside = unlabelled if background is None else background
    label, best = np.full(size, outside, np.uint8), np.zeros(size, np.float32)
    boxed = np.zeros(size, bool)
    for kind, x0, y0, x1, y1 in boxes:
        rows, columns = slice(max(y0, 0), max(y1, 0)), slice(max(x0, 0), max(x1, 0))
        inside, strongest = label[rows, columns], best[rows, columns]
        if not inside.size:
            continue
        inside[~boxed[rows, columns]] = unlabelled
        boxed[rows, columns] = True
        index = kind if background is None or kind < background else kind - 1  # among the foreground classes
        cam = cams[index][rows, columns] if index in cams else np.zeros(inside.shape, np.float32)
        low, high = cam.min(), cam.max()
        if high <= low:
            continue
        score = (cam - low) / (high - low)
        wins = (score >= threshold) & (score > strongest)
        inside[wins], strongest[wins] = kind, score[wins]
    return label
