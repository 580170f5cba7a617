"""Finds settings that contradict each other."""

from collections.abc import Iterator
from typing import Any

from spml.classes import DENSEPOSE_CLASSES
from spml.config import tables


def contradictions(config: Any) -> Iterator[tuple[str, str]]:
    """Each setting that contradicts the others, as its key and the expected value."""
    yield from _data_contradictions(config.dataset)
    yield from _training_contradictions(config)
    yield from _test_contradictions(config.test)
    yield from _loss_contradictions(config)
    if config.expected is not None and config.expected.mean_iou is None:
        yield "expected.mean_iou", "the figure, in per cent"


def _data_contradictions(dataset: Any) -> Iterator[tuple[str, str]]:
    if dataset.dataset == "Densepose" and not dataset.class_names and dataset.num_classes != len(DENSEPOSE_CLASSES):
        yield "dataset.num_classes", f"{len(DENSEPOSE_CLASSES)}, the classes of Densepose (or a file dataset.classes)"
    if dataset.class_names and len(dataset.class_names) != dataset.num_classes:
        yield "dataset.num_classes", f"the number of dataset.class_names ({len(dataset.class_names)})"
    if dataset.unlabelled_index is not None and dataset.unlabelled_index < dataset.num_classes:
        yield "dataset.unlabelled_index", f"no class, so >= dataset.num_classes ({dataset.num_classes})"
    if dataset.background is not None and dataset.background >= dataset.num_classes:
        yield "dataset.background", f"none or a class, so < dataset.num_classes ({dataset.num_classes})"


def _training_contradictions(config: Any) -> Iterator[tuple[str, str]]:
    network, train = config.network, config.train
    if train.begin_iteration >= train.max_iteration:
        yield "train.begin_iteration", f"less than train.max_iteration ({train.max_iteration})"
    if train.warmup_iteration > train.max_iteration:
        yield "train.warmup_iteration", f"at most train.max_iteration ({train.max_iteration})"
    if train.lr_policy == "step" and not train.decay_iterations:
        yield "train.decay_iterations", "at least one step, because train.lr_policy is step"
    if sorted(set(train.decay_iterations)) != train.decay_iterations:
        yield "train.decay_iterations", "steps that grow"
    if network.freeze_backbone and not network.pretrained:
        yield "network.pretrained", "weights, because network.freeze_backbone leaves the backbone as it is"
    if any(4 * grid > crop for grid, crop in zip(network.kmeans_num_clusters, train.crop_size, strict=True)):
        yield "network.kmeans_num_clusters", f"at most a quarter of train.crop_size ({train.crop_size})"


def _test_contradictions(test: Any) -> Iterator[tuple[str, str]]:
    if min(test.crop_size) == 0 < max(test.crop_size):
        yield "test.crop_size", "two sides of at least 1 pixel, or [0, 0] for whole views"
    if min(test.crop_size) > 0 and min(test.stride) == 0:
        yield "test.stride", "at least 1 pixel"
    if any(stride > crop for stride, crop in zip(test.stride, test.crop_size, strict=True)):
        yield "test.stride", f"at most test.crop_size ({test.crop_size}), or pixels are never seen"


def _loss_contradictions(config: Any) -> Iterator[tuple[str, str]]:
    table = tables.losses()
    for name, settings in config.losses.items():
        if settings.get("concentration") == 0:  # in a file of the release, where it means nothing unless the loss is on
            yield f"losses.{name}.concentration", f"a number > 0, because {name} is on"
    if config.train.task != "spml" or config.network.pretrained:
        return
    reaching = [
        settings.weight
        for name, settings in config.losses.items()
        if config.train.classifier_gradient or "logit" not in table[name].inputs
    ]
    if not config.losses:
        yield "losses", "at least one loss, or network.pretrained: or else the embedding stays random"
    elif not sum(reaching):
        yield (
            "train.classifier_gradient",
            "true, or a loss of the embedding with a weight, or network.pretrained: or else it stays random",
        )
