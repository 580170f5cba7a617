"""Labels that frozen features spread from the annotation, made once for all methods that train on them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from spml import records
from spml.data.lists import read_list
from spml.pipelines.compared_run import Guard
from spml.pseudo.label import LIST, build_source, choose_recipe, label_list

SOURCE = "spread"


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
        """Whether an earlier call made all; an empty outcome if so."""
        record = records.read(self.folder / "semantic_gray")
        return {} if record is not None and record.complete and self.data_list.is_file() else None

    def run(self, device: torch.device, guard: Guard) -> dict[str, Any]:
        """Make the labels. Raises UserError for a list that cannot be used."""
        data = self.config.dataset
        samples = read_list(data.train_data_list, data.data_dir, columns=2)
        recipe = choose_recipe(SOURCE)
        steps = recipe.walk_steps
        plan = recipe.plan(self.config)
        labeller = build_source(self.config, SOURCE, None, plan, device, samples, walk_steps=steps)
        print(label_list(self.config, samples, labeller, self.folder, walk_steps=steps), flush=True)
        return {}
