"""The record of a training folder: a run resumes there only with the settings and data that it began with."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from spml.config.load import plain
from spml.data.dataset import TrainingDataset
from spml.models import weights_file
from spml.models.checkpoint import list_snapshots
from spml.records import RECORD, OtherFiles, Record, differences, hash_file, hash_files, read, reopen, start

MADE = ("model-*.pth",)
OLDER_TEMPORARY = re.compile(r"\.model-\d+\.state\.pth\.\d+")  # what killed runs of older versions left
# Settings that change what a run reports, or where it computes, but not what it learns.
NEUTRAL = {
    "train": ("resume", "log_step", "snapshot_step", "tensorboard_step", "validation_step"),
    "dataset": ("data_dir", "train_data_list", "test_data_list", "classes", "tags", "color_map_path"),
    "network": ("pretrained",),
}
NEUTRAL_TOP = ("gpus", "num_threads", "test", "pipeline", "expected")


def _settings(config: Any, processes: int) -> dict[str, Any]:
    """The settings that a run learns by."""
    settings = {name: value for name, value in plain(config).items() if name not in NEUTRAL_TOP}
    for section, names in NEUTRAL.items():
        settings[section] = {name: value for name, value in settings[section].items() if name not in names}
    settings["train"]["batch_size"] = config.train.batch_size * processes
    return settings


def check_settings(config: Any, folder: Path, remedy: str) -> None:
    """Raise OtherFiles where a run with other settings has begun in the folder, without a look at its data."""
    before = read(folder)
    if before is None or not list_snapshots(folder):
        return
    now = replace(before, settings=_settings(config, 1))
    if before != now:
        told = (
            f"{folder / RECORD}: a training with other settings has begun here ({'; '.join(differences(before, now))})"
        )
        raise OtherFiles(told, folder, remedy)


def training_record(config: Any, dataset: TrainingDataset, processes: int, samples: str) -> Record:
    """The inputs of a run: its settings, the weights it starts from, and its training data, `samples` by their hash.

    The batch size counts over all processes, so 2 processes with 4 images each can resume a run of 4 with 2.
    """
    settings = _settings(config, processes)
    pretrained = config.network.pretrained
    file = weights_file(pretrained)
    weights = {"network.pretrained": pretrained if file is None else hash_file(file)} if pretrained else {}
    contents = {"samples": samples}
    if dataset.tags:
        contents["tags"] = hash_files(tag for _, tag in sorted(dataset.tags.items()))
    return Record("snapshots", weights, settings, contents)


def start_record(config: Any, folder: Path, dataset: TrainingDataset, processes: int, samples: str) -> None:
    """Write the record of a new run, or compare it with the record of the run to resume.

    It removes temporary files of killed processes. Folders of older versions, without a record, count as this run's.

    Raises:
        UserError: the folder has snapshots of other settings, weights or data; the message names what differs.
    """
    record = training_record(config, dataset, processes, samples)
    before = read(folder)
    if before is not None and before != record and list_snapshots(folder):
        told = f"--resume: the snapshots of {folder} follow from other settings or data"
        raise OtherFiles(
            f"{told} ({'; '.join(differences(before, record))})", folder, "expected the same, or another folder"
        )
    for path in folder.glob(".model-*.state.pth.*"):
        if OLDER_TEMPORARY.fullmatch(path.name):
            path.unlink(missing_ok=True)
    if start(folder, record, made=MADE, adopt=True):
        reopen(folder)
