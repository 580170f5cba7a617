"""Evaluate a folder of predicted label files against ground truth files of the same names."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

from spml.classes import class_names
from spml.data.lists import check_unique_names, read_list
from spml.data.samples import UNLABELLED, read_label
from spml.errors import UserError
from spml.evaluation.iou import ConfusionMatrix, InstanceIoU
from spml.progress import progress as counted

LABEL_SUFFIXES = (".png", ".bmp", ".tif", ".tiff", ".gif")
MOST_NAMES = 3

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LabelFiles:
    """The label files of one image; `instance` is None where there is none."""

    name: str
    prediction: Path
    target: Path
    instance: Path | None = None


@dataclass(frozen=True)
class Evaluation:
    """The result of an evaluation; shares in 0..1, `iou` (K,) is NaN for classes that do not occur.

    `counts` (K, K + 1) int64: pixels by target and prediction, as `ConfusionMatrix` has them.
    """

    measure: str
    num_images: int
    classes: tuple[str, ...]
    iou: np.ndarray
    mean_iou: float
    pixel_accuracy: float
    counts: np.ndarray | None = None

    def as_percent(self) -> dict[str, object]:
        """A dictionary for JSON, shares in per cent, None for what is not defined."""
        return {
            "measure": self.measure,
            "num_images": self.num_images,
            "mean_iou": _percent(self.mean_iou),
            "pixel_accuracy": _percent(self.pixel_accuracy),
            "iou": {name: _percent(value) for name, value in zip(self.classes, self.iou, strict=True)},
        }


def evaluate_folder(
    pred_dir: str | Path,
    gt_dir: str | Path | None = None,
    *,
    inst_dir: str | Path | None = None,
    data_list: str | Path | None = None,
    data_dir: str | Path = ".",
    num_classes: int | None = None,
    classes: Sequence[str] | None = None,
    by_instance: bool = False,
    progress: bool = True,
) -> Evaluation:
    """Compare every ground truth file with the prediction of the same stem.

    Args:
        pred_dir: label files with class ids in 0..K-1, as inference writes them to `semantic_gray`.
        gt_dir: ground truth files: 0..K-1, 255 and other values >= K do not count. All of them are evaluated.
        inst_dir: instance files of the same stems, 255 = void; only used `by_instance`. Without any, an instance is a
            connected patch of one class (8 neighbours).
        data_list: replaces `gt_dir`. Its lines are `image semantic [instance]`; the stems of the images name the
            predictions, and a third column replaces `inst_dir`.
        data_dir: the folder that the paths in `data_list` are relative to.
        num_classes: K; None: the number of `classes`, or 21 without these.
        classes: K names for the table; without them classes are called by their number.
        by_instance: weight each image's IoU by its instances (`InstanceIoU`), not one IoU over all pixels.
        progress: show a bar.

    Warns (by logging) of ground truth values in [K, 254), which do not count but look like classes.

    Raises:
        UserError: missing folders or files, files that hold no class ids, sizes that differ.
    """
    names = tuple(classes) if classes is not None else class_names(num_classes)
    samples = pair_files(pred_dir, gt_dir, inst_dir=inst_dir, data_list=data_list, data_dir=data_dir)
    confusion, instances = ConfusionMatrix(len(names)), InstanceIoU(len(names))
    occurs = np.zeros(256, dtype=bool)
    for sample in counted(samples, "evaluate", quiet=not progress):
        prediction, target = read_label(sample.prediction), read_label(sample.target)
        _check_size(sample.prediction, prediction, sample.target, target)
        occurs[np.unique(target)] = True
        if not by_instance:
            confusion.update(prediction, target)
        elif sample.instance is None:
            instances.update(prediction, target, connected_patches(target, len(names)))
        else:
            instance = read_label(sample.instance)
            _check_size(sample.instance, instance, sample.target, target)
            instances.update(prediction, target, instance)
    beyond = np.flatnonzero(occurs[len(names) : UNLABELLED]) + len(names)
    if len(beyond):
        logger.warning("ground truth values %s are none of the %d classes: not counted", beyond.tolist(), len(names))
    measure = instances if by_instance else confusion
    return Evaluation(
        measure="IoU by instance" if by_instance else "IoU",
        num_images=len(samples),
        classes=names,
        iou=measure.iou(),
        mean_iou=measure.mean_iou(),
        pixel_accuracy=measure.pixel_accuracy(),
        counts=instances.confusion.counts if by_instance else confusion.counts,
    )


def pair_files(
    pred_dir: str | Path,
    gt_dir: str | Path | None = None,
    *,
    inst_dir: str | Path | None = None,
    data_list: str | Path | None = None,
    data_dir: str | Path = ".",
) -> list[LabelFiles]:
    """The files of `evaluate_folder`: for every ground truth file its prediction and, with `inst_dir`, its instances.

    Raises:
        UserError: a missing or empty folder, or names without a file; the message has their number and the first.
    """
    if (gt_dir is None) == (data_list is None):
        raise UserError("the ground truth comes from --gt_dir or from --data_list: give one of them")
    listed: dict[str, Path] = {}
    if data_list is not None:
        target, listed = _listed_files(data_list, data_dir)
        source = f"ground truth files of {data_list}"
    else:
        target = _folder_files(Path(str(gt_dir)))
        source = f"ground truth files in {gt_dir}"
    prediction = _folder_files(Path(pred_dir))
    hint = "; --data_list evaluates part of a folder" if data_list is None else ""
    _check_names("prediction", Path(pred_dir), prediction, target, source, hint)
    instance = listed
    if inst_dir is not None:
        instance = _folder_files(Path(inst_dir))
        _check_names("instance file", Path(inst_dir), instance, target, source, hint)
    return [LabelFiles(name, prediction[name], path, instance.get(name)) for name, path in target.items()]


def connected_patches(target: np.ndarray, num_classes: int) -> np.ndarray:
    """(H, W) int64 ids of the connected patches (8 neighbours) of each class; pixels that do not count get 255."""
    patches = np.full(target.shape, 255, dtype=np.int64)
    following = 256  # so that no patch is taken for void
    for index in np.unique(target[(target >= 0) & (target < num_classes)]):
        found, count = ndimage.label(target == index, structure=np.ones((3, 3)))
        patches = np.where(found > 0, found + following, patches)
        following += count
    return patches


def _folder_files(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise UserError(f"no such folder: {folder}")
    paths = [path for path in sorted(folder.iterdir()) if path.suffix.lower() in LABEL_SUFFIXES]
    if not paths:
        below = next((path for path in sorted(folder.glob("*gray")) if path.is_dir()), None)
        hint = f"; did you mean {below}?" if below else ""
        raise UserError(f"{folder} has no label files ({', '.join(LABEL_SUFFIXES)}){hint}")
    return {path.stem: path for path in paths}


def _listed_files(data_list: str | Path, data_dir: str | Path) -> tuple[dict[str, Path], dict[str, Path]]:
    """Ground truth and instance files of a data list, by the stem of the image."""
    samples = read_list(data_list, data_dir, columns=2)
    check_unique_names(samples)
    target = {sample.name: sample.label for sample in samples if isinstance(sample.label, Path)}
    return target, {sample.name: sample.regions for sample in samples if isinstance(sample.regions, Path)}


def _check_names(
    what: str, folder: Path, have: dict[str, Path], wanted: dict[str, Path], source: str, hint: str
) -> None:
    missing = [name for name in wanted if name not in have]
    if missing:
        first = ", ".join(missing[:MOST_NAMES]) + (", ..." if len(missing) > MOST_NAMES else "")
        raise UserError(f"{folder}: no {what} for {len(missing)} of {len(wanted)} {source} ({first}){hint}")


def _check_size(path: Path, ids: np.ndarray, target_path: Path, target: np.ndarray) -> None:
    if ids.shape != target.shape:
        sizes = [" x ".join(map(str, shape[::-1])) for shape in (ids.shape, target.shape)]
        raise UserError(f"sizes differ (width x height): {path} is {sizes[0]}, {target_path} is {sizes[1]}")


def _percent(share: float) -> float | None:
    return None if np.isnan(share) else round(100 * float(share), 4)
