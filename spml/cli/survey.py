"""The page on the training data that stands before every new training: what it holds, and what cannot be meant."""

import os
from pathlib import Path
from typing import Any

from spml import records
from spml.data.dataset import build_training_dataset
from spml.data.survey import Survey, survey
from spml.errors import UserError
from spml.files import write_atomically
from spml.models.checkpoint import list_snapshots
from spml.tasks import TABLE

PAGE = "data.txt"  # beside the snapshots
# Tasks that do not learn by the config's losses.
OWN_LOSSES: dict[str, dict[str, float]] = {"classifier": {"cross_entropy": 1.0}, "cam": {}, "seam": {}}
WEAK = ("spml",)  # tasks whose labels are said to be weak; cross-entropy alone learns from any


def survey_of(config: Any) -> Survey:
    """The survey of the training data of a config, as its task reads them."""
    data, task = config.dataset, config.train.task
    dataset = build_training_dataset(config, TABLE[task].needs)
    return survey(
        dataset.samples,
        data.num_classes,
        data.class_names,
        background=data.background,
        unlabelled_index=data.unlabelled_index,
        losses=OWN_LOSSES.get(task, {name: settings.weight for name, settings in config.losses.items()}),
        tags=dataset.tags,
        weak=task in WEAK and not _are_pseudo_labels(data.train_data_list),
    )


def print_survey(config: Any, folder: str | Path, strict: bool) -> None:
    """Print the page and keep it in the folder of a run that has not begun; one process of several does.

    Raises:
        UserError: with `strict`, data that cannot be meant.
    """
    if os.environ.get("RANK", "0") != "0" or list_snapshots(Path(folder)):
        return
    found = survey_of(config)
    page = found.page()
    print(page)
    if strict and found.warnings:
        first, count = found.warnings[0], len(found.warnings)
        raise UserError(f"--strict: {count} warnings about the data, the first [{first.code}]: {first.message}")
    write_atomically(Path(folder) / PAGE, lambda file: file.write(page.encode()))


def _are_pseudo_labels(listed: str) -> bool:
    record = records.read(Path(listed).parent / "semantic_gray")
    return record is not None and record.kind == "pseudo labels"
