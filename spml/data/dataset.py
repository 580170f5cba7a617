"""Turns samples into tensors: the training loader, and the reader of single images for inference.

The loader has no state: item `p` of the endless sequence of samples depends on (seed, p) alone. So the same seed gives
the same batches for any number of workers, and a run resumes by starting at a later position.
"""

import signal
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from spml.data.augment import DENSEPOSE_SWAP, Augmentation, augment, normalise, pad_label
from spml.data.listed import only
from spml.data.lists import check_samples, check_unique_names, check_values, read_list
from spml.data.needs import Needs
from spml.data.samples import UNLABELLED, DataError, Sample, named, read_sample_files
from spml.data.tags import given_tag, read_tags
from spml.errors import UserError

STAGE_1 = Needs(instance=True)
_ORDER, _AUGMENTATION = 0, 1  # separate random streams under one seed


class TrainingDataset(Dataset):
    """Augmented training samples by position: position `p` is sample `p % n` of epoch `p // n`, shuffled each epoch.

    An item is a dict of `image` float32 (3, h, w), normalised, 0 where padded; `semantic_label` and `instance_label`
    int64 (h, w), 255 where padded, the instance 0 where the list has none; `inside` bool (h, w), false where padded
    (void pixels, which are 255 too, are inside); `semantic_tag` bool (num_classes,), the classes of the whole image's
    semantic label before cropping, or those of `tags`, where a mirror image swaps left and right body parts as in the
    label; `name`.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        augmentation: Augmentation,
        *,
        num_classes: int,
        pixel_means: Sequence[float],
        pixel_stds: Sequence[float],
        seed: int = 0,
        shuffle: bool = True,
        unlabelled_index: int | None = None,
        tags: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        """`unlabelled_index`: a value of the semantic labels to read as unlabelled (254), None or negative for none.

        `tags`: name to (num_classes,) bool. A sample in it needs no label; without a label, none of its pixels is
        labelled. The tags of other samples are the classes of their labels.
        """
        self.samples, self.augmentation = samples, augmentation
        self.num_classes, self.pixel_means, self.pixel_stds = num_classes, tuple(pixel_means), tuple(pixel_stds)
        self.seed, self.shuffle, self.unlabelled_index = seed, shuffle, unlabelled_index
        self.tags = tags
        self._epoch, self._permutation = -1, np.empty(0, np.int64)

    def sample_at(self, position: int) -> Sample:
        """The sample at a position of the endless sequence."""
        epoch, index = divmod(position, len(self.samples))
        if not self.shuffle:
            return self.samples[index]
        if epoch != self._epoch:
            rng = np.random.default_rng([self.seed, _ORDER, epoch])
            self._epoch, self._permutation = epoch, rng.permutation(len(self.samples))
        return self.samples[self._permutation[index]]

    def __getitem__(self, position: int) -> dict[str, Any]:
        sample = self.sample_at(position)
        image, semantic, instance = read_sample_files(sample)
        tag = None if self.tags is None else self.tags.get(sample.name)
        if semantic is None and tag is None:
            raise DataError(f"{sample.where}: no semantic label: training needs `image semantic [instance]`")
        if semantic is None:
            semantic = np.full(image.shape[:2], UNLABELLED, np.uint8)
        semantic = as_unlabelled(semantic, self.unlabelled_index)
        if tag is None:
            tag = np.bincount(semantic.ravel(), minlength=256)[: self.num_classes] > 0
        if instance is None:
            instance = np.zeros_like(semantic)
        rng = np.random.default_rng([self.seed, _AUGMENTATION, position])
        image, semantic, instance, start, mirrored = augment(image, semantic, instance, self.augmentation, rng)
        if mirrored and self.augmentation.swap_parts:  # the tags are of the whole image, before its mirror image
            tag = np.bincount(DENSEPOSE_SWAP[np.flatnonzero(tag)], minlength=256)[: self.num_classes] > 0
        size = self.augmentation.crop_size
        return {
            "image": torch.from_numpy(normalise(image, self.pixel_means, self.pixel_stds, start, size)),
            "semantic_label": torch.from_numpy(pad_label(semantic, start, size)),
            "instance_label": torch.from_numpy(pad_label(instance, start, size)),
            "inside": torch.from_numpy(pad_label(np.zeros_like(semantic), start, size) == 0),
            "semantic_tag": torch.from_numpy(tag),
            "name": sample.name,
        }

    def __getitems__(self, positions: list[int]) -> list[dict[str, Any]] | UserError:
        """A batch. A UserError is returned, not raised: a worker would wrap its one line into a traceback."""
        try:
            return [self[position] for position in positions]
        except UserError as error:
            return error


class PositionSampler(Sampler[list[int]]):
    """Positions of each step: row `j` of rank `r` of `w` at step `s` is `(s * w + r) * batch_size + j`."""

    def __init__(self, start_step: int, stop_step: int, batch_size: int, rank: int = 0, world_size: int = 1) -> None:
        self.steps = range(start_step, stop_step)
        self.batch_size, self.rank, self.world_size = batch_size, rank, world_size

    def __len__(self) -> int:
        return len(self.steps)

    def __iter__(self) -> Iterator[list[int]]:
        for step in self.steps:
            first = (step * self.world_size + self.rank) * self.batch_size
            yield list(range(first, first + self.batch_size))


class TrainingLoader(DataLoader):
    """A DataLoader that raises the UserError of a worker as it is."""

    def __iter__(self) -> Iterator[dict[str, Any]]:  # type: ignore[override]
        for batch in super().__iter__():
            if isinstance(batch, UserError):
                raise batch
            yield batch


def build_training_loader(
    config: Any, needs: Needs = STAGE_1, rank: int = 0, world_size: int = 1, start_step: int = 0
) -> TrainingLoader:
    """The batches of one process from the config's list, one for each step from `start_step` to `train.max_iteration`.

    A batch is a dict of the items of `TrainingDataset`, stacked: `image` (B, 3, h, w), `semantic_label` and
    `instance_label` (B, h, w), `semantic_tag` (B, num_classes), and `name`, a list. B is `train.batch_size`, that
    of one process. The list's files are checked first, by rank 0.

    Args:
        config: the tree of `spml.config`.
        needs: what the task asks for.
    Raises:
        DataError: a mistake in the list or its files, here or while iterating, also from a worker.
    """
    dataset = build_training_dataset(config, needs)
    if rank == 0:
        check_training_dataset(dataset)
    return load_training_dataset(config, dataset, rank, world_size, start_step)


def check_training_dataset(dataset: TrainingDataset) -> None:
    """Check the files of the samples; see `check_samples`."""
    check_samples(dataset.samples, dataset.num_classes, unlabelled_index=dataset.unlabelled_index)


def check_labels(dataset: TrainingDataset) -> None:
    """Check that labels hold classes; see `check_values`."""
    check_values(dataset.samples, dataset.num_classes, unlabelled_index=dataset.unlabelled_index)


def load_training_dataset(
    config: Any, dataset: TrainingDataset, rank: int = 0, world_size: int = 1, start_step: int = 0
) -> TrainingLoader:
    """The loader of `build_training_loader`, for a dataset that exists and is checked."""
    train = config.train
    return TrainingLoader(
        dataset,
        batch_sampler=PositionSampler(start_step, train.max_iteration, train.batch_size, rank, world_size),
        num_workers=config.num_threads,
        collate_fn=_collate,
        worker_init_fn=_start_worker,
        pin_memory=torch.cuda.is_available(),
        # Without its own generator, the loader would draw from the global random state, which resuming restores.
        generator=torch.Generator(),
    )


def build_training_dataset(
    config: Any, needs: Needs = STAGE_1, samples: Sequence[Sample] | None = None
) -> TrainingDataset:
    """The training data of a config, unchecked; `samples` in place of its list."""
    data, train = config.dataset, config.train
    augmentation = Augmentation(
        crop_size=(int(train.crop_size[0]), int(train.crop_size[1])),
        image_size=train.image_size,
        scale=needs.scale if train.random_scale else None,
        random_crop=train.random_crop,
        mirror=train.random_mirror,
        swap_parts=data.dataset == "Densepose",
        grey=needs.grey,
        blur=needs.blur,
    )
    tags: Mapping[str, np.ndarray] | None = None
    if samples is not None:
        samples, tags = take_samples(samples, data, needs)
    elif needs.tags:
        samples, tags = read_tagged_samples(data)
    else:
        samples = read_list(data.train_data_list, data.data_dir, columns=needs.columns)
    if not needs.instance:
        samples = only(samples, "label")
    return TrainingDataset(
        samples,
        augmentation,
        num_classes=data.num_classes,
        pixel_means=config.network.pixel_means,
        pixel_stds=config.network.pixel_stds,
        seed=train.seed,
        shuffle=train.shuffle,
        unlabelled_index=data.unlabelled_index,
        tags=tags,
    )


def take_samples(samples: Sequence[Sample], data: Any, needs: Needs) -> tuple[list[Sample], dict[str, np.ndarray]]:
    """Name the samples that a program gives instead of a list. Returns them, and the tags of those that have tags.

    Args:
        data: the section `dataset` of a config.
    Raises:
        DataError: no sample, one without what the task learns from, unknown tags, or two of one name with tags.
    """
    samples = named(samples)
    if not samples:
        raise DataError("samples: expected at least one, got none")
    for sample in samples:
        if sample.label is None and (not needs.tags or sample.tags is None):
            raise DataError(f"{sample.where}: no {'tags and no ' if needs.tags else ''}label: the task learns from it")
    if any(sample.tags is not None for sample in samples):
        check_unique_names(samples)
    tags = {
        sample.name: given_tag(sample, data.num_classes, data.class_names, data.background)
        for sample in samples
        if sample.tags is not None
    }
    if needs.tags:  # a label beside tags is not read
        samples = [replace(sample, label=None) if sample.name in tags else sample for sample in samples]
    return samples, tags


def read_tagged_samples(data: Any) -> tuple[Sequence[Sample], dict[str, np.ndarray] | None]:
    """The training images of CAMs with their tags (see `read_tags`), or with their labels where no tags are given.

    It drops the columns that it does not need, so that nobody reads their files.

    Args:
        data: the section `dataset` of a config.
    Raises:
        DataError: from the list, the tags, or for a list without labels where `dataset.tags` is empty.
    """
    samples = only(read_list(data.train_data_list, data.data_dir), "label")
    if data.tags:
        check_unique_names(samples)
        tags = read_tags(data.tags, samples, data.num_classes, data.class_names, data.background)
        return only(samples), tags
    if samples[0].label is None:
        raise DataError(f"{samples[0].where}: no tags: expected a file dataset.tags, or a semantic label in column 2")
    return samples, None


@dataclass(frozen=True)
class EvaluationSample:
    """One whole image for inference, neither resized nor padded."""

    name: str
    image: torch.Tensor  # (3, H, W) float32, normalised
    pixels: np.ndarray  # (H, W, 3) uint8 RGB
    semantic: torch.Tensor | None  # (H, W) int64
    instance: torch.Tensor | None  # (H, W) int64


def read_sample(
    sample: Sample, pixel_means: Sequence[float], pixel_stds: Sequence[float], unlabelled_index: int | None = None
) -> EvaluationSample:
    """Read an image with the labels its list gives. Raises DataError with list and line."""
    pixels, semantic, instance = read_sample_files(sample)
    if semantic is not None:
        semantic = as_unlabelled(semantic, unlabelled_index)
    return EvaluationSample(
        sample.name,
        torch.from_numpy(normalise(pixels, pixel_means, pixel_stds)),
        pixels,
        None if semantic is None else torch.from_numpy(semantic.astype(np.int64)),
        None if instance is None else torch.from_numpy(instance.astype(np.int64)),
    )


def as_unlabelled(semantic: np.ndarray, unlabelled_index: int | None) -> np.ndarray:
    """Read one value of a semantic label, even 255, as unlabelled (254). Call it before padding, which stays 255."""
    if unlabelled_index is None or unlabelled_index < 0:
        return semantic
    return np.where(semantic == unlabelled_index, np.uint8(UNLABELLED), semantic)


def _collate(batch: list[dict[str, Any]] | UserError) -> dict[str, Any] | UserError:
    if isinstance(batch, UserError):
        return batch
    stacked: dict[str, Any] = {key: torch.stack([item[key] for item in batch]) for key in batch[0] if key != "name"}
    return {**stacked, "name": [item["name"] for item in batch]}


def _start_worker(worker: int) -> None:
    """One thread a worker: the workers are the parallelism. Signals are for the main process, which saves first."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
