"""What CAMs are worth against masks, over the thresholds between background and foreground."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from spml.data.lists import read_list
from spml.data.pickled import read_cam_file
from spml.data.samples import read_label
from spml.errors import UserError
from spml.evaluation.iou import ConfusionMatrix
from spml.files import write_json
from spml.progress import progress as counted
from spml.visualize.report import table

THRESHOLDS = tuple(round(0.05 * step, 2) for step in range(1, 15))  # 0.05 to 0.70
DIAGNOSTIC = (
    "a diagnostic: a threshold chosen on these masks would leak them into training; the labels keep the default rule"
)


def default_threshold(alpha: float) -> float:
    """The t in (0, 1) with t = (1 - t)^alpha: by the rule (1 - max)^alpha a pixel has a class where its max > t."""
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if middle < (1 - middle) ** alpha else (low, middle)
    return low


class CamSweep:
    """Confusion matrices of CAM labels for many thresholds at once, accumulated over images.

    The label of threshold t: the class of the highest CAM where that is above t, else background. Each pixel is counted
    once, by target, best class and the number of thresholds below its highest CAM.

    Args:
        num_classes: K, with the background.
        thresholds: ascending.
    """

    def __init__(self, num_classes: int, thresholds: Sequence[float] = THRESHOLDS) -> None:
        self.num_classes, self.thresholds = num_classes, tuple(thresholds)
        self.counts = np.zeros((num_classes, num_classes, len(self.thresholds) + 1), np.int64)

    def update(self, cams: Mapping[int, np.ndarray], target: np.ndarray) -> None:
        """Count one image.

        Args:
            cams: foreground class index, 0..K-2, to (H, W) float.
            target: (H, W) integer class ids; values from K on, such as 255, do not count.

        Raises:
            ValueError: a CAM of another size or class.
        """
        highest, best = np.zeros(target.shape, np.float32), np.zeros(target.shape, np.int64)
        for index, cam in sorted(cams.items()):
            if cam.shape != target.shape or not 0 <= index < self.num_classes - 1:
                raise ValueError(
                    f"expected CAMs of {target.shape}, of classes 0 to {self.num_classes - 2}, "
                    f"got {cam.shape} of class {index}"
                )
            wins = cam > highest
            highest[wins], best[wins] = cam[wins], index + 1
        counted = target < self.num_classes
        below = np.searchsorted(self.thresholds, highest[counted], side="left")  # how many are under the CAM
        place = (target[counted].astype(np.int64) * self.num_classes + best[counted]) * self.counts.shape[2] + below
        self.counts += np.bincount(place, minlength=self.counts.size).reshape(self.counts.shape)

    def mean_iou(self) -> list[float]:
        """The mean IoU of each threshold, in 0..1; NaN where no pixel was counted."""
        found = []
        for place in range(len(self.thresholds)):
            confusion = ConfusionMatrix(self.num_classes)
            confusion.counts[:, : self.num_classes] = self.counts[:, :, place + 1 :].sum(2)
            confusion.counts[:, 0] += self.counts[:, :, : place + 1].sum((1, 2))
            found.append(confusion.mean_iou())
        return found


def sweep_list(
    cam_dir: str | Path,
    data_list: str | Path,
    data_dir: str | Path,
    num_classes: int,
    alpha: float,
    progress: bool = True,
) -> dict[str, Any]:
    """Compare the CAM files of a folder with the masks of a list, over thresholds.

    Args:
        cam_dir: holds `<name>.npy` of each image of the list.
        data_list: lines `image mask`, relative to `data_dir`; mask values from num_classes on do not count.
        num_classes: K, with the background.
        alpha: of the default rule, whose own threshold is among the others.

    Returns:
        For JSON: what this is, the number of images, "default" and "thresholds", each of the latter with its mean IoU
        in per cent (None where no pixel counts).

    Raises:
        UserError: files that are missing, cannot be read or do not fit.
    """
    default = default_threshold(alpha)
    sweep, samples = CamSweep(num_classes, sorted({*THRESHOLDS, default})), read_list(data_list, data_dir, columns=2)
    for sample in counted(samples, "thresholds", quiet=not progress):
        path = Path(cam_dir) / f"{sample.name}.npy"
        assert sample.label is not None
        try:
            sweep.update(read_cam_file(path), read_label(sample.label, sample.where))
        except ValueError as error:
            raise UserError(f"{path} against {sample.label}: {error}") from error
    shares = [None if np.isnan(share) else round(100 * share, 2) for share in sweep.mean_iou()]
    return {
        "what": f"mean IoU of CAM labels in per cent; {DIAGNOSTIC}",
        "images": len(samples),
        "default": round(default, 4),
        "thresholds": [
            {"threshold": round(threshold, 4), "mean_iou": share}
            for threshold, share in zip(sweep.thresholds, shares, strict=True)
        ],
    }


def write_sweep(path: str | Path, found: Mapping[str, Any]) -> str:
    """Write what `sweep_list` found as JSON, and return its table."""
    write_json(path, found)
    return sweep_table(found)


def sweep_table(found: Mapping[str, Any]) -> str:
    """The table of `sweep_list`, which says what it is for."""
    rows = []
    for row in found["thresholds"]:
        note = " (default rule)" if row["threshold"] == found["default"] else ""
        rows.append((f"{row['threshold']:.2f}{note}", "-" if row["mean_iou"] is None else f"{row['mean_iou']:.1f}"))
    return f"{table(rows, ('threshold', 'mIoU %'))}\n{found['images']} images; {DIAGNOSTIC}"
