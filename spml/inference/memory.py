"""Memories of labelled prototypes: filled from a data list, read for retrieval."""

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from spml.data.dataset import read_sample
from spml.data.lists import IGNORE, Sample, check_samples, check_unique_names
from spml.data.pickled import read_memory_file, write_memory_file
from spml.errors import UserError
from spml.files import write_atomically
from spml.inference.made_by import mark_of
from spml.inference.outputs import write_clusters
from spml.inference.segmenter import Segmenter
from spml.inference.views import resize_label

PROTOTYPES = "semantic_prototype"  # the folder of the files, as released
RECORD = "memory.json"  # where a memory came from
FULL_MASKS = "the memory is filled from FULL MASKS: results with it are not weakly supervised"


@dataclass(frozen=True)
class MemoryRecord:
    """Where a memory came from; stands beside its folder."""

    data_list: str
    full_masks: bool
    images: int
    prototypes: int
    scales: tuple[float, ...]
    flip: bool
    kmeans_num_clusters: tuple[int, int]
    snapshot_sha256: str | None = None


def vote(index: Tensor, label: Tensor, num_segments: int, num_classes: int) -> Tensor:
    """The label of each segment: the most frequent of its pixels' labels, of equally frequent ones the smallest.

    Void pixels vote for void, so that a segment mostly void is left out, as released; unlabelled pixels abstain, where
    the release counted them: from scribbles and points nearly every segment would be unlabelled.

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
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The labelled prototypes of all views of one image.

    Args:
        image: (3, H, W), normalised.
        label: (H, W) uint8, as `vote` reads it.

    Returns:
        prototype (P, C) float32, their label (P,) int64 in [0, num_classes), and the segments (h, w) of the first view.
    """
    prototypes, labels, clusters = [], [], None
    for views in segmenter.plan.views(image):
        size = (views.shape[-2], views.shape[-1])
        resized = torch.from_numpy(np.ascontiguousarray(resize_label(label, size)))
        mirrored = torch.stack([resized, resized.flip(-1)])[: len(views)]
        index, prototype = segmenter(views, keep_padding=True)
        voted = vote(index.flatten(), mirrored.flatten().to(index.device), len(prototype), num_classes)
        kept = voted != IGNORE
        prototypes.append(prototype[kept].float().cpu().numpy())
        labels.append(voted[kept].cpu().numpy())
        if clusters is None:
            clusters = index[0].cpu().numpy()
    assert clusters is not None
    return np.concatenate(prototypes), np.concatenate(labels), clusters


def fill_memory(
    config: Any,
    samples: Sequence[Sample],
    segmenter: Segmenter,
    save_dir: str | Path,
    *,
    full_masks: bool = False,
    overwrite: bool = False,
) -> str:
    """Write `semantic_prototype/<name>.npy` and `semantic_cluster/<name>.png` for each sample, and `memory.json`.

    Images that have a file already are skipped unless `overwrite`.

    Args:
        samples: with semantic labels: weak ones, or full masks, which `full_masks` must say and the record keeps.

    Returns:
        One line saying what was done.

    Raises:
        UserError: files that cannot be read; a folder that holds a memory of other labels or views; no prototype.
    """
    start, save_dir, num_classes = time.time(), Path(save_dir), int(config.dataset.num_classes)
    check_unique_names(samples)
    check_samples(samples, num_classes, unlabelled_index=config.dataset.unlabelled_index)
    plan = segmenter.plan
    record = MemoryRecord(
        *(str(Path(samples[0].list_path or "").resolve()), full_masks, len(samples), 0),
        *(plan.scales, plan.flip, segmenter.num_clusters, mark_of(segmenter.model)),
    )
    _start_record(save_dir, record, overwrite)
    skipped = total = 0
    for sample in tqdm(samples, desc="memory", unit="image"):
        path = save_dir / PROTOTYPES / f"{sample.name}.npy"
        if path.exists() and not overwrite:
            skipped += 1
            total += len(read_memory_file(path)[0])
            continue
        network = config.network
        read = read_sample(sample, network.pixel_means, network.pixel_stds, config.dataset.unlabelled_index)
        if read.semantic is None:
            raise UserError(f"{sample.where}: no semantic label: a memory needs `image semantic` on each line")
        label = read.semantic.numpy().astype(np.uint8)
        prototype, prototype_label, clusters = image_prototypes(read.image, label, segmenter, num_classes)
        write_clusters(save_dir, sample.name, clusters)
        write_memory_file(path, prototype, prototype_label)
        total += len(prototype)
    if total == 0:
        raise UserError(
            f"no segment of the {len(samples)} images of {samples[0].list_path} has a label: expected pixels with "
            f"values below num_classes {num_classes}; if 255 marks unlabelled pixels, set dataset.unlabelled_index=255"
        )
    _write_record(save_dir, replace(record, prototypes=total))
    done = f"{total} prototypes of {len(samples)} images ({skipped} were there already)"
    labels = f"from {'FULL MASKS' if full_masks else 'the weak labels'} of {samples[0].list_path}"
    return f"{done} {labels} in {save_dir / PROTOTYPES}, {time.time() - start:.1f} s"


def _start_record(save_dir: Path, record: MemoryRecord, overwrite: bool) -> None:
    """Write the record before the first file, so that no memory is without one; refuse to mix two sources.

    With `overwrite` the prototypes of another source are removed: what reads a memory reads all of its files.
    """
    before = read_record(save_dir)
    if before is not None:
        own = json.loads(json.dumps(asdict(record)))  # tuples become lists
        other = [key for key in own if key not in ("images", "prototypes") and before.get(key) != own[key]]
        for path in (save_dir / PROTOTYPES).glob("*.npy") if other and overwrite else ():
            path.unlink()
        if other and not overwrite:
            told = ", ".join(f"{key} {before.get(key)}, now {own[key]}" for key in other)
            raise UserError(
                f"{save_dir / RECORD}: this folder holds another memory ({told}): expected an empty --save_dir, "
                "or --overwrite"
            )
    _write_record(save_dir, record)


def _write_record(save_dir: Path, record: MemoryRecord) -> None:
    text = json.dumps(asdict(record), indent=2) + "\n"
    write_atomically(save_dir / RECORD, lambda file: file.write(text.encode()))


def read_record(memory_dir: str | Path) -> dict[str, Any] | None:
    """What `memory.json` in a folder, or beside its `semantic_prototype`, says; None where there is none."""
    memory_dir = Path(memory_dir)
    path = (memory_dir.parent if memory_dir.name == PROTOTYPES else memory_dir) / RECORD
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path}: {error}; expected what prototype.py wrote") from error
    return record if isinstance(record, dict) else None


def read_memory(
    memory_dir: str | Path, num_classes: int, channels: int, size: int = 0, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Read a memory: every `.npy` of `<memory_dir>/semantic_prototype` or of the folder itself, in order of names.

    Args:
        num_classes: prototypes of other labels, such as 255, are left out.
        channels: C that the embedding has.
        size: keep this many, drawn by `seed`; 0 keeps all.

    Returns:
        prototype (P, C) float32 and label (P,) int64 in [0, num_classes), P >= 1.

    Raises:
        UserError: no file, a file that cannot be used, another C, or nothing left.
    """
    memory_dir = Path(memory_dir)
    folder = memory_dir / PROTOTYPES if (memory_dir / PROTOTYPES).is_dir() else memory_dir
    paths = sorted(folder.glob("*.npy"))
    if not paths:
        raise UserError(f"--semantic_memory_dir {memory_dir}: expected .npy files written by prototype.py, found none")
    prototypes, labels = [], []
    for path in tqdm(paths, desc="reading the memory", unit="file", leave=False):
        prototype, label = read_memory_file(path)
        if prototype.shape[1] != channels:
            raise UserError(
                f"{path}: expected prototypes of {channels} channels as the embedding, got {prototype.shape}"
            )
        kept = (label >= 0) & (label < num_classes)
        prototypes.append(prototype[kept])
        labels.append(label[kept])
    memory, memory_label = torch.from_numpy(np.concatenate(prototypes)), torch.from_numpy(np.concatenate(labels))
    if len(memory) == 0:
        raise UserError(f"{folder}: none of the prototypes has a label below num_classes {num_classes}")
    if 0 < size < len(memory):
        chosen = torch.randperm(len(memory), generator=torch.Generator().manual_seed(seed))[:size].sort()[0]
        memory, memory_label = memory[chosen], memory_label[chosen]
    return memory, memory_label
