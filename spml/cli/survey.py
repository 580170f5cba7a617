"""Prints a page on the training data before every new training: their content, and likely mistakes."""

import copy
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from spml import records
from spml.data.dataset import build_training_dataset, check_training_dataset
from spml.data.samples import Sample
from spml.data.survey import Survey, survey
from spml.errors import UserError
from spml.files import write_atomically
from spml.models.checkpoint import list_snapshots
from spml.pseudo.label import LIST
from spml.tasks import TABLE

PAGE = "data.txt"  # beside the snapshots
# Tasks that do not learn by the config's losses.
OWN_LOSSES: dict[str, dict[str, float]] = {
    "classifier": {"cross_entropy": 1.0},
    **{task: {} for task in ("cam", "seam", "ppc", "affinity", "irn")},
}
MADE = ("pseudo labels", "labels of CAMs")  # kinds of records
WEAK = ("spml",)  # tasks whose labels are said to be weak; cross-entropy alone learns from any


def survey_of(config: Any, whole: bool = False) -> Survey:
    """The survey of the training data of a config, as its task reads them. `whole`: check the files of every line."""
    data, task = config.dataset, config.train.task
    dataset = build_training_dataset(config, TABLE[task].needs)
    if whole:
        check_training_dataset(dataset)
    return survey(
        dataset.samples,
        data.num_classes,
        data.class_names,
        background=data.background,
        unlabelled_index=data.unlabelled_index,
        losses=OWN_LOSSES.get(task, {name: settings.weight for name, settings in config.losses.items()}),
        tags=dataset.tags,
        weak=task in WEAK and not _are_made(dataset.samples),
    )


def print_survey(config: Any, folder: str | Path, strict: bool) -> None:
    """Print the page, and save it in the folder of a run that has not begun. One of several processes does so.

    Raises:
        UserError: with `strict`, data with a likely mistake.
    """
    if os.environ.get("RANK", "0") != "0" or list_snapshots(Path(folder)):
        return
    found = survey_of(config)
    page = found.page()
    print(page)
    if strict and found.warnings:
        first, count = found.warnings[0], len(found.warnings)
        told = "a warning about the data," if count == 1 else f"{count} warnings about the data, the first"
        raise UserError(f"--strict: {told} [{first.code}]: {first.message}")
    write_atomically(Path(folder) / PAGE, lambda file: file.write(page.encode()))


def print_drawn(
    config: Any, data_list: str, samples: Sequence[Sample], folder: str | Path, again: bool = False
) -> None:
    """Print the page on labels that somebody drew, before they spread into `folder`: afterwards mistakes hide.

    Nothing is said of labels that this package made, or once the spread ones are there, unless they are made `again`.
    """
    label = samples[0].label if samples else None
    made = isinstance(label, Path) and records.read(label.parent) is not None
    if made or ((Path(folder) / LIST).is_file() and not again):
        return
    config = copy.deepcopy(config)
    config.dataset.train_data_list = str(data_list)
    print_survey(config, folder, strict=False)


def _are_made(samples: Sequence[Sample]) -> bool:
    """Whether this package made the labels, which may then be full: its record lies beside them."""
    label = samples[0].label if samples else None
    record = records.read(label.parent) if isinstance(label, Path) else None
    return record is not None and record.kind in MADE
