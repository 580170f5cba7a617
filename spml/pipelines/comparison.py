"""The plan of a comparison: methods x annotations x seeds, and the runs on dev that choose each method's setting."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from spml.config import load_config
from spml.data.lists import given_entries, read_list, split_list, write_list
from spml.data.samples import Sample
from spml.errors import UserError
from spml.pipelines.compared_run import PREDICTORS, ComparedRun
from spml.pipelines.methods import METHODS, Method, Setting
from spml.pipelines.spread_labels import SpreadLabels

CHOICE_SEED = 1000  # of every run on dev: no seed of the result
EVERY = 6  # one line in so many of the training list is dev, where there are no folds
OWN = ""  # the annotation of a config's own training list
WHOLE, FIT, DEV = "whole", "fit", "dev"  # parts of a training list


@dataclass(frozen=True)
class Row:
    """A row of the result: a method on an annotation."""

    annotation: str
    name: str
    method: Method

    @property
    def key(self) -> str:
        """Its name in the result, and its folder."""
        return f"{self.annotation}/{self.name}" if self.annotation else self.name


@dataclass(frozen=True)
class Comparison:
    """What is compared.

    Args:
        config: a file, or a shipped config's name.
        folder: gets everything.
        methods: by name; see `find_methods`.
        seeds: of the runs of the result.
        overrides: `key=value` for all runs.
        annotations: name -> training list; none: the config's own list.
        masks: a list `image mask` of all training images: `full_masks` learns from it, and the choice on dev reads it.
        tries: settings tried for each method; 1: nothing is chosen.
        predictor: the read-out whose mIoU on dev chooses.
        folds: 1: dev is one part, every sixth line of the sorted training list. K: a cross-validation, where every K-th
            line is the dev of a fold, each setting is tried on all K, and the mIoU of all images together chooses.

    Raises:
        UserError: settings that cannot be used.
    """

    config: str | Path
    folder: Path
    methods: Mapping[str, Method]
    seeds: Sequence[int] = (0,)
    overrides: Sequence[str] = ()
    annotations: Mapping[str, str] = field(default_factory=dict)
    masks: str | None = None
    tries: int = 1
    predictor: str = "softmax"
    folds: int = 1

    def __post_init__(self) -> None:
        if self.predictor not in PREDICTORS:
            raise UserError(f"--predictor: expected one of {', '.join(PREDICTORS)}, got {self.predictor!r}")
        for name in self.annotations:
            if not re.fullmatch(r"\w[\w.-]*", name) or name in METHODS or name in self.methods or name == "lists":
                raise UserError(f"--annotation: expected a name of letters and digits, such as point, got {name!r}")
        if self.tries < 1:
            raise UserError(f"--tries: expected at least 1, got {self.tries}")
        if self.folds < 1 or (self.folds > 1 and self.tries == 1):
            raise UserError(f"--folds: expected 1, or more with --tries of 2 or more, got {self.folds}")
        needy = [name for name, method in self.methods.items() if method.labels == "masks"]
        if needy and self.masks is None:
            raise UserError(f"--masks: expected the list of full masks that {needy[0]} trains on")

    @cached_property
    def plain(self) -> Any:
        """The config without any method."""
        return load_config(self.config, self.overrides)

    @cached_property
    def rows(self) -> list[Row]:
        """Every method on every annotation; what learns from full masks stands once, without an annotation."""
        found = []
        for annotation in self.annotations or {OWN: ""}:
            weak = [(name, method) for name, method in self.methods.items() if method.labels != "masks"]
            found += [Row(annotation, name, method) for name, method in weak]
        full = [(name, method) for name, method in self.methods.items() if method.labels == "masks"]
        return found + [Row(OWN, name, method) for name, method in full]

    def tried(self, row: Row) -> tuple[Setting, ...]:
        """The settings of a row that are tried; the first is the default."""
        return row.method.grid[: self.tries]

    # lists

    def annotation_list(self, row: Row) -> str:
        """The list that a row's labels come from."""
        if row.method.labels == "masks":
            return str(self.masks)
        return self.annotations.get(row.annotation) or self.plain.dataset.train_data_list

    def part(self, row: Row, part: str, fold: int = 0) -> str:
        """The list of a part of the training list, as annotated; dev has masks where there are any."""
        given = self.annotation_list(row)
        if part == WHOLE:
            return given
        folder = self.folder / "lists" / ("masks" if row.method.labels == "masks" else row.annotation)
        every = self.folds if self.folds > 1 else EVERY
        dev, fit = split_list(given, folder / self._of_fold(fold), every, fold, overwrite=True)
        if part == FIT:
            return str(fit)
        return str(dev) if self.masks is None else self._with_masks(dev)

    def _of_fold(self, fold: int) -> str:
        """The name of a fold's folders; "" where there is one dev."""
        return f"fold{fold}" if self.folds > 1 else ""

    def _with_masks(self, dev: Path) -> str:
        """The list of the images of `dev` with their full masks."""
        data_dir = self.plain.dataset.data_dir
        masked = {_image(sample): sample for sample in read_list(str(self.masks), data_dir, columns=2)}
        images = [_image(sample) for sample in read_list(dev, data_dir)]
        missing = [image for image in images if image not in masked]
        if missing:
            raise UserError(
                f"--masks {self.masks}: expected a line for each training image, found none for {missing[0]}"
            )
        path = dev.with_name(f"{dev.stem}_masks.txt")
        write_list(path, [given_entries(masked[image], data_dir, "image", "label") for image in images])
        return str(path)

    def training_list(self, row: Row, part: str, fold: int = 0) -> str:
        """The list that a row trains on: the annotation's, or that of the labels spread from it."""
        if row.method.labels == "spread":
            return str(self._spread(row, part, fold).data_list)
        return self.part(row, part, fold)

    def check_lists(self) -> None:
        """Raise UserError for a list that cannot be read, or that has fewer lines than parts."""
        data_dir, data = self.plain.dataset.data_dir, self.plain.dataset
        if not data.test_data_list:
            raise UserError("dataset.test_data_list: expected the list that the result is measured on, got nothing")
        given = {"dataset.test_data_list": data.test_data_list}
        given |= {f"--annotation {name}": path for name, path in self.annotations.items()}
        given |= {} if self.masks is None else {"--masks": self.masks}
        given |= {} if self.annotations else {"dataset.train_data_list": data.train_data_list}
        for name, path in given.items():
            try:
                lines = len(read_list(path, data_dir, columns=2))
            except UserError as error:
                raise UserError(f"{name}: {error}") from error
            if self.folds > lines and name != "dataset.test_data_list":
                raise UserError(f"--folds: expected at most {lines}, the images of {path}, got {self.folds}")

    # jobs

    def spread_labels(self, row: Row) -> list[SpreadLabels]:
        """The labels that a row trains on, if they are not the annotation's own. Rows share them."""
        if row.method.labels != "spread":
            return []
        fit = [self._spread(row, FIT, fold) for fold in range(self.folds)] if self.tries > 1 else []
        return [self._spread(row, WHOLE), *fit]

    def _spread(self, row: Row, part: str, fold: int = 0) -> SpreadLabels:
        name = self._of_fold(fold) if part == FIT else ""
        folder = self.folder / row.annotation / "spread" / part / name
        own = [f"dataset.train_data_list={self.part(row, part, fold)}"]
        title = f"{row.annotation or 'annotation'}, spread over the {part} list{name and f' of {name}'}"
        return SpreadLabels(title, load_config(self.config, [*self.overrides, *own]), folder)

    def run_on_dev(self, row: Row, number: int, fold: int = 0) -> ComparedRun:
        """The run that tries one setting of a row: it learns from fit and is evaluated on dev."""
        lists = [f"dataset.test_data_list={self.part(row, DEV, fold)}"]
        own = [f"dataset.train_data_list={self.training_list(row, FIT, fold)}", *lists, f"train.seed={CHOICE_SEED}"]
        own.append("train.validation_step=0")
        config = self._configure(row, number, own)
        folder = self.folder / row.key / f"try{number}" / self._of_fold(fold)
        full, which = row.method.labels == "masks", self._of_fold(fold)
        return ComparedRun(row.name, CHOICE_SEED, config, folder, row.annotation, number, full, self.predictor, which)

    def run(self, row: Row, seed: int, number: int = 0) -> ComparedRun:
        """A run of the result, with one setting of the row's grid."""
        own = [f"train.seed={seed}"]
        if row.annotation or row.method.labels != "weak":
            own.append(f"dataset.train_data_list={self.training_list(row, WHOLE)}")
        config = self._configure(row, number, own)
        folder = self.folder / row.key / (f"setting{number}" if number else "") / f"seed{seed}"
        return ComparedRun(row.name, seed, config, folder, row.annotation, number, row.method.labels == "masks")

    def _configure(self, row: Row, number: int, own: Sequence[str]) -> Any:
        try:
            return row.method.configure(self.config, self.overrides, row.method.grid[number], own)
        except UserError as error:
            raise UserError(f"method {row.name}, setting {number}: {error}") from None


def _image(sample: Sample) -> str:
    """The absolute path of a sample's image."""
    return os.path.abspath(sample.image_path)
