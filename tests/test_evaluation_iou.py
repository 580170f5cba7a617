"""IoU against plain loops, and what counts and what does not."""

import math

import numpy as np
import pytest
import torch

from spml.evaluation import ConfusionMatrix, InstanceIoU
from spml.evaluation.folders import connected_patches


def loop_iou(prediction, target, num_classes):
    """IoU of each class by visiting every pixel; None for classes that do not occur."""
    found = []
    for index in range(num_classes):
        hit = union = 0
        for p, t in zip(prediction.reshape(-1).tolist(), target.reshape(-1).tolist(), strict=True):
            if 0 <= t < num_classes:
                hit += p == index and t == index
                union += p == index or t == index
        found.append(hit / union if union else None)
    return found


def assert_iou(found, expected):
    assert len(found) == len(expected)
    for value, reference in zip(found, expected, strict=True):
        assert math.isnan(value) if reference is None else value == pytest.approx(reference)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64, np.uint32])
def test_iou_equals_loops(dtype):
    rng = np.random.default_rng(0)
    values = np.array([0, 1, 2, 3, 4, 5, 7, 254, 255])  # classes 0..4; 5 and above are none
    prediction, target = rng.choice(values[:7], (3, 13, 9)).astype(dtype), rng.choice(values, (3, 13, 9)).astype(dtype)
    matrix = ConfusionMatrix(5)
    for p, t in zip(prediction, target, strict=True):
        matrix.update(p, t)
    expected = loop_iou(prediction, target, 5)
    assert_iou(matrix.iou(), expected)
    assert matrix.mean_iou() == pytest.approx(sum(expected) / 5)
    counted = target < 5
    assert matrix.pixel_accuracy() == pytest.approx((prediction == target)[counted].mean())
    assert matrix.counts.sum() == counted.sum()


def test_tensors_count_as_arrays_do():
    prediction, target = torch.randint(0, 4, (2, 6, 5)), torch.randint(0, 4, (2, 6, 5))
    ours, reference = ConfusionMatrix(4), ConfusionMatrix(4)
    ours.update(prediction.to(torch.uint8), target.to(torch.int32))
    reference.update(prediction.numpy(), target.numpy())
    assert (ours.counts == reference.counts).all()


def test_predictions_that_are_no_class_are_misses_only():
    matrix = ConfusionMatrix(2)
    matrix.update(np.array([1, 255, 2, -1, 0]), np.array([1, 1, 1, 1, 0]))
    assert_iou(matrix.iou(), [1.0, 0.25])
    assert matrix.pixel_accuracy() == pytest.approx(0.4)


def test_predictions_on_pixels_without_target_do_not_count():
    matrix = ConfusionMatrix(3)
    matrix.update(np.array([0, 1, 2, 2, 2]), np.array([0, 1, 255, 254, -1]))
    assert_iou(matrix.iou(), [1.0, 1.0, None])
    assert matrix.mean_iou() == 1.0


@pytest.mark.parametrize("target", [np.full((4, 4), 255), np.zeros((0, 4), dtype=np.uint8)], ids=["ignored", "empty"])
def test_nothing_that_counts_is_nan_without_a_warning(target, recwarn):
    matrix, instances = ConfusionMatrix(3), InstanceIoU(3)
    matrix.update(np.zeros_like(target), target)
    instances.update(np.zeros_like(target), target, np.zeros_like(target))
    for measure in (matrix, instances):
        assert np.isnan(measure.iou()).all()
        assert math.isnan(measure.mean_iou()) and math.isnan(measure.pixel_accuracy())
    assert not recwarn.list


def test_one_class_and_one_pixel():
    matrix = ConfusionMatrix(1)
    matrix.update(np.array([[0]]), np.array([[0]]))
    assert matrix.mean_iou() == matrix.pixel_accuracy() == 1.0


def test_matrices_add_up():
    rng = np.random.default_rng(1)
    pairs = [(rng.integers(0, 3, (5, 5)), rng.integers(0, 3, (5, 5))) for _ in range(2)]
    parts = [ConfusionMatrix(3), ConfusionMatrix(3)]
    whole = ConfusionMatrix(3)
    for part, pair in zip(parts, pairs, strict=True):
        part.update(*pair)
        whole.update(*pair)
    assert ((parts[0] + parts[1]).counts == whole.counts).all()
    with pytest.raises(ValueError, match="3 and 4 classes"):
        parts[0] + ConfusionMatrix(4)


def test_bad_arguments_say_what_came():
    matrix = ConfusionMatrix(3)
    with pytest.raises(ValueError, match=r"\(2, 3\) and \(3, 2\)"):
        matrix.update(np.zeros((2, 3), int), np.zeros((3, 2), int))
    with pytest.raises(ValueError, match="prediction must hold integer class ids, got float32"):
        matrix.update(np.zeros((2, 2), np.float32), np.zeros((2, 2), int))
    with pytest.raises(ValueError, match="got 0"):
        ConfusionMatrix(0)
    with pytest.raises(ValueError, match="instance and target"):
        InstanceIoU(3).update(np.zeros((2, 2), int), np.zeros((2, 2), int), np.zeros((2, 3), int))


def test_instance_iou_equals_loops():
    rng = np.random.default_rng(2)
    images = [
        (rng.integers(0, 4, (8, 7)), rng.choice([0, 1, 2, 255], (8, 7)), rng.choice([0, 1, 2, 255], (8, 7)))
        for _ in range(3)
    ]
    images.append((np.ones((2, 2), int), np.zeros((2, 2), int), np.zeros((2, 2), int)))  # class 1 only predicted
    measure, halves = InstanceIoU(4), [InstanceIoU(4), InstanceIoU(4)]
    sums, weights = [0.0] * 4, [0] * 4
    for number, (prediction, target, instance) in enumerate(images):
        measure.update(prediction, target, instance)
        halves[number % 2].update(prediction, target, instance)
        for index, iou in enumerate(loop_iou(prediction, target, 4)):
            ids = {int(i) for i, t in zip(instance.flat, target.flat, strict=True) if t == index}
            count = max(1, len(ids - {255})) if ids else 0
            sums[index] += count * (iou or 0.0)
            weights[index] += count
    expected = [s / w if w else None for s, w in zip(sums, weights, strict=True)]
    assert expected[3] is None  # predicted in places, in no target
    assert_iou(measure.iou(), expected)
    assert_iou((halves[0] + halves[1]).iou(), expected)


def test_instances_weight_images_not_pixels():
    measure = InstanceIoU(2)
    measure.update(np.array([1, 1, 1, 1]), np.array([1, 1, 1, 1]), np.array([1, 2, 3, 255]))  # right: 3 instances
    measure.update(np.zeros(100, int), np.ones(100, int), np.ones(100, int))  # all wrong: 1 instance of many pixels
    assert measure.iou()[1] == pytest.approx(3 / 4)
    assert measure.pixel_accuracy() == pytest.approx(4 / 104)


def test_connected_patches_are_the_instances_without_files():
    target = np.array([[1, 0, 1, 255], [0, 1, 0, 255], [2, 2, 0, 1]])
    patches = connected_patches(target, 3)
    assert (patches[target == 255] == 255).all()
    assert len(np.unique(patches[target == 1])) == 2  # diagonal neighbours are one patch
    assert len(np.unique(patches[target == 2])) == 1
    assert not set(np.unique(patches[target == 1])) & set(np.unique(patches[target == 0]))
