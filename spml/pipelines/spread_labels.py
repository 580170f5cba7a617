"""Labels that frozen features spread from the annotation, made once for all methods that train on them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from spml import records
from spml.data.lists import read_list
from spml.data.samples import Sample
from spml.inference.shares import hash_samples
from spml.pipelines.compared_run import REMEDY, Guard
from spml.pseudo.label import LIST, build_source, choose_recipe, label_list

SOURCE, KIND = "spread", "spread labels of a comparison"


@dataclass(frozen=True)
class SpreadLabels:
    """The labels of one list: `spml pseudo-label --source spread` with its own recipe.

    Args:
        config: its training list has the annotation.
        folder: gets the labels and their list.
    """

    title: str
    config: Any
    folder: Path

    @property
    def data_list(self) -> Path:
        """The list that methods train on."""
        return self.folder / LIST

    def finished(self) -> dict[str, Any] | None:
        """An empty outcome if an earlier call made all. It writes the record of the labels to come.

        Raises:
            UserError: a list that cannot be read; a folder that holds labels of another annotation or config.
        """
        data = self.config.dataset
        things = {
            "plan": choose_recipe(SOURCE).plan(self.config),
            "features": self.config.network.pretrained,
            "classes": [data.num_classes, data.unlabelled_index],
        }
        record = records.record_of(KIND, things, {"list": hash_samples(self._samples())})
        return {} if records.start(self.folder, record, made=(LIST,), remedy=REMEDY) else None

    def run(self, device: torch.device, guard: Guard) -> dict[str, Any]:
        """Make the labels. Raises UserError for a list that cannot be used."""
        samples, recipe = self._samples(), choose_recipe(SOURCE)
        steps = recipe.walk_steps
        labeller = build_source(
            *(self.config, SOURCE, None, recipe.plan(self.config), device, samples), walk_steps=steps
        )
        print(label_list(self.config, samples, labeller, self.folder, walk_steps=steps), flush=True)
        records.finish(self.folder)
        return {}

    def _samples(self) -> Sequence[Sample]:
        return read_list(self.config.dataset.train_data_list, self.config.dataset.data_dir, columns=2)
