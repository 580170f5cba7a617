"""Intersection over union (IoU), over a data set or image by image weighted by instances.

Both measures take label maps of any integer type, numpy arrays or tensors on any device. Only pixels whose target is
in [0, num_classes) count: 255 (ignore) and other values from `num_classes` up (unlabelled) are left out. A prediction
outside that range at a counted pixel is wrong: a miss of the target's class, and a false alarm of no class.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np

if TYPE_CHECKING:  # evaluating files needs no torch; importing it would cost seconds
    from torch import Tensor

    LabelMap: TypeAlias = "np.ndarray | Tensor"

VOID_INSTANCE = 255


class ConfusionMatrix:
    """Counts of (target, prediction) pairs, accumulated over images: the IoU is that of the whole data set.

    `counts` is (K, K + 1) int64: row = target, column = prediction, the last column = predictions that are no class.
    Matrices of the same K add up: `a + b` is the matrix of both sets of images.

    Args:
        num_classes: K, from 1 on.

    Raises:
        ValueError: num_classes below 1.
    """

    def __init__(self, num_classes: int) -> None:
        if num_classes < 1:
            raise ValueError(f"num_classes must be at least 1, got {num_classes}")
        self.num_classes = num_classes
        self.counts = np.zeros((num_classes, num_classes + 1), dtype=np.int64)

    def update(self, prediction: LabelMap, target: LabelMap) -> None:
        """Count one label map, or a batch of them.

        Args:
            prediction: class ids, integers of any shape.
            target: class ids of the same shape; values outside [0, K), such as 255, do not count.

        Raises:
            ValueError: shapes that differ, or values that are no integers.
        """
        predicted, expected = _integers("prediction", prediction), _integers("target", target)
        if predicted.shape != expected.shape:
            raise ValueError(f"prediction and target must have one shape, got {predicted.shape} and {expected.shape}")
        counted = (expected >= 0) & (expected < self.num_classes)
        predicted, expected = predicted[counted].astype(np.int64), expected[counted].astype(np.int64)  # (N,) each
        predicted[(predicted < 0) | (predicted >= self.num_classes)] = self.num_classes
        pair = expected * (self.num_classes + 1) + predicted
        self.counts += np.bincount(pair, minlength=self.counts.size).reshape(self.counts.shape)

    def __add__(self, other: ConfusionMatrix) -> ConfusionMatrix:
        if other.num_classes != self.num_classes:
            raise ValueError(f"cannot add matrices of {self.num_classes} and {other.num_classes} classes")
        total = ConfusionMatrix(self.num_classes)
        total.counts = self.counts + other.counts
        return total

    def iou(self) -> np.ndarray:
        """TP / (TP + FP + FN) of each class, (K,) float64 in 0..1; NaN where neither target nor prediction has it."""
        hit = np.diagonal(self.counts)
        union = self.counts.sum(1) + self.counts[:, :-1].sum(0) - hit
        return _ratio(hit, union)

    def mean_iou(self) -> float:
        """Mean of `iou()` over the classes that occur in target or prediction, in 0..1; NaN if no pixel counts."""
        return _mean(self.iou())

    def pixel_accuracy(self) -> float:
        """Share of counted pixels whose prediction is right, in 0..1; NaN if no pixel counts."""
        return float(_ratio(np.trace(self.counts), self.counts.sum()))


class InstanceIoU:
    """IoU of each image, weighted by its number of instances of the class.

    iou[c] = sum_i n[i, c] iou[i, c] / sum_i n[i, c], over images i, with iou[i, c] the IoU of class c inside image i
    and n[i, c] the number of different instance ids on its target pixels of class c. Id 255 (void) is no instance, but
    n is at least 1 for a class in the target. An image without the class has weight 0: false alarms in it cost that
    class nothing, but they cost the class of those pixels.

    Unlike in `ConfusionMatrix`, large objects do not outweigh small ones in other images.

    Args:
        num_classes: K, from 1 on.
    """

    def __init__(self, num_classes: int) -> None:
        self.confusion = ConfusionMatrix(num_classes)
        self.num_classes = num_classes
        self.weight = np.zeros(num_classes)
        self.weighted_iou = np.zeros(num_classes)

    def update(self, prediction: LabelMap, target: LabelMap, instance: LabelMap) -> None:
        """Count one image.

        Args:
            prediction, target: as `ConfusionMatrix.update` takes them.
            instance: instance ids, integers of the same shape; 255 is void.

        Raises:
            ValueError: shapes that differ, or values that are no integers.
        """
        expected, ids = _integers("target", target), _integers("instance", instance)
        if ids.shape != expected.shape:
            raise ValueError(f"instance and target must have one shape, got {ids.shape} and {expected.shape}")
        image = ConfusionMatrix(self.num_classes)
        image.update(prediction, expected)
        iou = image.iou()
        for index in np.flatnonzero(image.counts.sum(1)):
            found = np.unique(ids[expected == index])
            count = max(1, np.count_nonzero(found != VOID_INSTANCE))
            self.weight[index] += count
            self.weighted_iou[index] += count * iou[index]
        self.confusion += image

    def __add__(self, other: InstanceIoU) -> InstanceIoU:
        total = InstanceIoU(self.num_classes)
        total.confusion = self.confusion + other.confusion
        total.weight = self.weight + other.weight
        total.weighted_iou = self.weighted_iou + other.weighted_iou
        return total

    def iou(self) -> np.ndarray:
        """Weighted IoU of each class, (K,) float64 in 0..1; NaN for classes in no target."""
        return _ratio(self.weighted_iou, self.weight)

    def mean_iou(self) -> float:
        """Mean of `iou()` over the classes in any target, in 0..1; NaN if there is none."""
        return _mean(self.iou())

    def pixel_accuracy(self) -> float:
        """Share of counted pixels whose prediction is right, not weighted, in 0..1; NaN if no pixel counts."""
        return self.confusion.pixel_accuracy()


def _integers(name: str, values: LabelMap) -> np.ndarray:
    array = values if isinstance(values, np.ndarray) else values.detach().cpu().numpy()
    if not (np.issubdtype(array.dtype, np.integer) or array.dtype == bool):
        raise ValueError(f"{name} must hold integer class ids, got {array.dtype}")
    return array


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """part / whole, NaN where whole is 0."""
    part, whole = np.asarray(part, dtype=np.float64), np.asarray(whole, dtype=np.float64)
    return np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0)


def _mean(values: np.ndarray) -> float:
    """Mean without NaN; NaN if nothing is left (numpy would also warn)."""
    present = values[~np.isnan(values)]
    return float(present.mean()) if len(present) else float("nan")
