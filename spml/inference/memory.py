"""Memories of labelled prototypes: fills them from a data list and reads them for retrieval."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spml import records
from spml.classes import IGNORE, UNLABELLED
from spml.data.dataset import EvaluationSample
from spml.data.listed import names_of, only
from spml.data.pickled import read_memory_file, write_memory_file
from spml.data.samples import Sample
from spml.errors import UserError
from spml.files import read_json
from spml.inference import packed
from spml.inference.loop import Done, Job, go_through, image_settings
from spml.inference.outputs import Refining, write_clusters
from spml.inference.segmenter import Segmenter
from spml.inference.views import resize_label
from spml.progress import progress

KIND = "memories"
PROTOTYPES = "semantic_prototype"  # the folder of the files, as released
MADE = ("*.npy",)
OLDER_RECORD = "memory.json"  # where earlier versions kept what the record holds now
FULL_MASKS = "the memory is filled from FULL MASKS: results with it are not weakly supervised"


def vote(index: Tensor, label: Tensor, num_segments: int, num_classes: int) -> Tensor:
    """The label of each segment: the most frequent label of its pixels (the smallest in a tie).

    Void pixels vote for void, so mostly void segments are left out, as in the release. Unlabelled pixels do not vote.
    The release counts them, which would leave nearly every segment unlabelled for scribbles and points.

    Args:
        index: (N,) int64 in [0, num_segments), the segment of each pixel.
        label: (N,) integer: classes below num_classes; 255 is void; any other value is unlabelled.

    Returns:
        (num_segments,) int64: a class, or 255 where void wins or nobody votes.
    """
    label = label.long()
    votes = (label < num_classes) | (label == IGNORE)
    choice = label[votes].clamp(max=num_classes)  # void is choice K
    ballot = torch.bincount(index[votes] * (num_classes + 1) + choice, minlength=num_segments * (num_classes + 1))
    count, winner = ballot.reshape(num_segments, num_classes + 1).max(1)
    return winner.masked_fill((winner == num_classes) | (count == 0), IGNORE)


def image_prototypes(
    image: Tensor, label: np.ndarray, segmenter: Segmenter, num_classes: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The labelled prototypes of all views of one image.

    Args:
        image: (3, H, W), normalised.
        label: (H, W) uint8, as `vote` reads it.

    Returns:
        prototype (P, C) float32, their label (P,) int64 in [0, num_classes), the segments (h, w) of the first view, and
        the id there of each prototype's segment (P,) int64, -1 for those of other views and of mirror images.

    Raises:
        UserError: prototypes that are not finite.
    """
    prototypes, labels, origins, clusters = [], [], [], None
    for views in segmenter.plan.views(image):
        size = (views.shape[-2], views.shape[-1])
        resized = torch.from_numpy(np.ascontiguousarray(resize_label(label, size)))
        mirrored = torch.stack([resized, resized.flip(-1)])[: len(views)]
        index, prototype = segmenter(views, keep_padding=True)
        voted = vote(index.flatten(), mirrored.flatten().to(index.device), len(prototype), num_classes)
        kept = voted != IGNORE
        prototypes.append(prototype[kept].float().cpu().numpy())
        labels.append(voted[kept].cpu().numpy())
        segment = torch.nonzero(kept).flatten().cpu().numpy()  # ids of the view's first image come first
        if clusters is None:
            clusters = index[0].cpu().numpy()
            origins.append(np.where(segment <= clusters.max(), segment, -1))
        else:
            origins.append(np.full_like(segment, -1))
    assert clusters is not None
    held = np.concatenate(prototypes)
    if not np.isfinite(held).all():
        raise UserError("the network gives prototypes that are not finite: its training has diverged")
    return held, np.concatenate(labels), clusters, np.concatenate(origins)


def sample_prototypes(
    read: EvaluationSample, segmenter: Segmenter, num_classes: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """`image_prototypes` of a sample. Raises UserError where it has no label."""
    if read.semantic is None:
        raise UserError(f"{read.name}: no label: a memory needs `image semantic` on each line, or samples with labels")
    return image_prototypes(read.image, read.semantic.numpy().astype(np.uint8), segmenter, num_classes)


def memory_things(segmenter: Segmenter, full_masks: bool = False) -> dict[str, Any]:
    """What a memory depends on, beside the images, for its record."""
    return {"segmenter": segmenter, "full_masks": full_masks}


def fill_memory(
    config: Any,
    samples: Sequence[Sample],
    segmenter: Segmenter,
    save_dir: str | Path,
    *,
    full_masks: bool = False,
    overwrite: bool = False,
) -> str:
    """Write `semantic_prototype/<name>.npy` and `semantic_cluster/<name>.png` for each sample.

    At the end it writes all prototypes to `semantic_packed` as well, which is what prediction reads.
    See `go_through` for what stops it, what is skipped and how several processes share the list.

    Args:
        samples: with labels, either weak ones or full masks. Set `full_masks` for the latter; the record keeps it.

    Returns:
        One line saying what was done.

    Raises:
        UserError: files that cannot be read; a folder that holds another memory; no prototype.
    """
    save_dir, num_classes = Path(save_dir), int(config.dataset.num_classes)
    samples = only(samples, "label")
    source = (samples[0].list_path if samples else None) or "the samples"

    def work(read: EvaluationSample, refiner: Refining | None) -> Mapping[str, int]:
        prototype, label, clusters, segment = sample_prototypes(read, segmenter, num_classes)
        write_clusters(save_dir, read.name, clusters)
        write_memory_file(save_dir / target(read.name), prototype, label, segment)
        return {"prototypes": len(prototype)}

    def tally(names: Sequence[str]) -> Mapping[str, int]:
        return {"prototypes": count_prototypes(save_dir / target(name) for name in names)}

    def finish(done: Done) -> Mapping[str, Any]:
        found = done.words.get("prototypes", 0)
        if not found:
            raise UserError(no_prototype(len(samples), source, num_classes))
        record, folder = records.read(save_dir / PROTOTYPES), save_dir / packed.FOLDER
        assert record is not None
        if done.new or packed.read(folder, record) is None:
            files = sorted(target(name) for name in names_of(samples))  # the order of `read_memory`
            parts = (read_memory_file(save_dir / file) for file in progress(files, "packing the memory", unit="file"))
            packed.pack(folder, parts, found, record)
        return {"prototypes": found}

    def target(name: str) -> str:
        return f"{PROTOTYPES}/{name}.npy"

    things = memory_things(segmenter, full_masks)
    job = Job(KIND, things, target, MADE, work, finish=finish, tally=tally, older=OLDER_RECORD)
    done = go_through(config, samples, job, save_dir, overwrite=overwrite)
    record = records.read(save_dir / PROTOTYPES)
    assert record is not None
    told = (
        f"{record.notes['prototypes']} prototypes of {done.images} images ({done.images - done.new} were there already)"
    )
    labels = f"from {'FULL MASKS' if full_masks else 'the weak labels'} of {source}"
    return f"{told} {labels} in {save_dir / PROTOTYPES}, {done.seconds:.1f} s"


def count_prototypes(paths: Iterable[Path]) -> int:
    """How many prototypes memory files hold."""
    return sum(len(read_memory_file(path)[0]) for path in paths)


def no_prototype(images: int, source: object, num_classes: int) -> str:
    """The message for labels that give no segment a class."""
    return (
        f"no segment of the {images} images of {source} has a label: expected pixels with values below num_classes "
        f"{num_classes}; if 255 means unlabelled, set dataset.unlabelled_index=255"
    )


def of_full_masks(memory_dir: str | Path) -> bool:
    """Whether the record of a memory, or `memory.json` of an older version, says that full masks filled it."""
    folder = prototype_folder(memory_dir)
    record = records.read(folder)
    if record is not None:
        return bool(record.settings.get("full_masks"))
    older = (folder.parent if folder.name == PROTOTYPES else folder) / OLDER_RECORD
    held = read_json(older, "what `spml memory` wrote") if older.is_file() else None
    return isinstance(held, dict) and bool(held.get("full_masks"))


def check_memory(memory_dir: str | Path, config: Any, segmenter: Segmenter) -> records.Record | None:
    """Check that a memory comes from this network, these segments and this way to read images; return its record.

    The views (scales, crops) of a memory may differ from those of the images that it labels. A memory without a record,
    such as the release's, is accepted.

    Raises:
        UserError: the memory is not complete, or does not fit; the message names what differs.
    """
    record = records.require_complete(prototype_folder(memory_dir), "the memory")
    if record is None:
        return None
    if record.kind != KIND:
        raise UserError(f"{memory_dir}: expected a memory, got {record.kind}")
    own = records.record_of(KIND, {**memory_things(segmenter), **image_settings(config)})
    told = records.differences(_what_must_agree(record), _what_must_agree(own))
    if told:
        raise UserError(
            f"{memory_dir}: the memory was made by another network or other segments ({'; '.join(told)}): "
            "expected one of this snapshot and config"
        )
    return record


def _what_must_agree(record: records.Record) -> records.Record:
    grid = record.settings.get("segmenter", {})
    settings = {
        **{name: grid.get(name) for name in ("num_clusters", "iterations")},
        **{name: record.settings.get(name) for name in ("num_classes", "pixel_means", "pixel_stds")},
    }
    return records.Record(record.kind, record.weights, settings)


def prototype_folder(memory_dir: str | Path) -> Path:
    """Where the files of a memory and its record lie: `semantic_prototype` inside a folder, or the folder itself."""
    inside = Path(memory_dir) / PROTOTYPES
    return inside if inside.is_dir() else Path(memory_dir)


def read_memory(memory_dir: str | Path, num_classes: int, channels: int) -> tuple[Tensor, Tensor]:
    """Read a memory: every `.npy` of `<memory_dir>/semantic_prototype` or of the folder itself, in order of names.

    Where `<memory_dir>/semantic_packed` holds the same, it maps that file instead of reading one an image.

    Args:
        num_classes: K; it drops prototypes of label 255, which released files hold.
        channels: C of the embedding.

    Returns:
        prototype (P, C) float32 and label (P,) int64 in [0, K), P >= 1.

    Raises:
        UserError: no file; a file that is unreadable, of another C, with values that are not finite or labels that are
            no class; no prototype left.
    """
    folder = prototype_folder(memory_dir)
    whole = packed.read(folder.parent / packed.FOLDER, records.read(folder)) if folder.name == PROTOTYPES else None
    if whole is not None and whole[0].shape[1] == channels and whole[1].max() < num_classes:
        return torch.from_numpy(whole[0]), torch.from_numpy(whole[1])
    paths = sorted(folder.glob("*.npy"))
    if not paths:
        raise UserError(f"--semantic_memory_dir {memory_dir}: expected .npy files written by `spml memory`, found none")
    prototypes, labels = [], []
    for path in progress(paths, "reading the memory", unit="file"):
        prototype, label = _read_file(path, num_classes, channels)
        prototypes.append(prototype)
        labels.append(label)
    memory, memory_label = torch.from_numpy(np.concatenate(prototypes)), torch.from_numpy(np.concatenate(labels))
    if len(memory) == 0:
        raise UserError(f"{folder}: none of the prototypes has a label: all are void (255)")
    return memory, memory_label


def index_file(memory_dir: str | Path) -> Path | None:
    """Where the index of a memory is kept: beside the packed prototypes; None for a memory that is not packed."""
    folder = prototype_folder(memory_dir).parent / packed.FOLDER
    return folder / packed.INDEX if (folder / packed.ORIGIN).is_file() else None


def draw(memory: Tensor, label: Tensor, size: int, seed: int) -> tuple[Tensor, Tensor]:
    """Draw `size` prototypes of a memory (P, C) with their labels (P,) by `seed`, and keep their order; 0: all."""
    if not 0 < size < len(memory):
        return memory, label
    chosen = torch.randperm(len(memory), generator=torch.Generator().manual_seed(seed))[:size].sort()[0]
    return memory[chosen], label[chosen]


def _read_file(path: Path, num_classes: int, channels: int) -> tuple[np.ndarray, np.ndarray]:
    """The prototypes of a file that have a class, and their labels."""
    prototype, label = read_memory_file(path)
    if prototype.shape[1] != channels:
        raise UserError(f"{path}: expected prototypes of {channels} channels as the embedding, got {prototype.shape}")
    kept = (label >= 0) & (label < num_classes)
    # Without a class: void, unlabelled as our tools write it, and as the release does.
    odd = np.unique(label[~kept & ~np.isin(label, (IGNORE, UNLABELLED, num_classes))])
    if len(odd):
        raise UserError(
            f"{path}: expected labels below num_classes {num_classes}, or 254 or 255, "
            f"got {', '.join(map(str, odd[:5]))}"
        )
    if not np.isfinite(prototype[kept]).all():
        raise UserError(f"{path}: expected finite prototypes, got NaN or infinite values")
    return prototype[kept], label[kept]
