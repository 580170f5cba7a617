"""Callbacks that report a run: the progress line, and TensorBoard's scalars and pictures."""

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from spml.data.dataset import TrainingDataset
from spml.engine.loop import Record, to_device
from spml.engine.schedule import learning_rate
from spml.progress import EVERY
from spml.tasks import Task
from spml.tasks.base import photo
from spml.visualize import class_palette, grid, legend

POINTS = 10  # records of a run in TensorBoard, at least


class Progress:
    """A bar in a terminal; in a log file, one line each half minute and one at the end."""

    def __init__(self, config: Any, first: int, processes: int = 1) -> None:
        self.train, self.first = config.train, first
        self.images = config.train.batch_size * processes
        self.begin = self.since = time.monotonic()
        self.since_step = first
        self.bar: tqdm | None = None
        if sys.stderr.isatty():
            total = self.train.max_iteration
            self.bar = tqdm(total=total, initial=first, desc=self.train.task, unit="step", file=sys.stderr)

    def __call__(self, step: int, losses: Record, task: Task) -> None:
        """Report a finished step when a line is due."""
        done, last = step + 1, self.train.max_iteration
        if self.bar is not None:
            if done % self.train.log_step == 0:
                self.bar.set_postfix_str(self._terms(done, losses), refresh=False)
            self.bar.update()
        elif done == last or time.monotonic() - self.since >= EVERY:
            left = (time.monotonic() - self.begin) / (done - self.first) * (last - done)
            line = f"{self.train.task} {done}/{last}: {self._terms(done, losses)}, {clock(left)} left"
            print(line, file=sys.stderr, flush=True)

    def _terms(self, done: int, losses: Record) -> str:
        """The terms of a step, and images a second since the last call."""
        now = time.monotonic()
        speed = (done - self.since_step) * self.images / max(now - self.since, 1e-9)
        self.since, self.since_step = now, done
        terms = [f"{short(name)}={value:.3f}" for name, value in losses.items() if name != "step"]
        return ", ".join([*terms, f"{speed:.1f} images/s"])

    def close(self) -> None:
        """End the bar's line."""
        if self.bar is not None:
            self.bar.close()


class TensorBoard:
    """Scalars, and pictures of the first image of the batch, each `train.tensorboard_step` and at the last step.

    A short run has at least ten records.
    """

    def __init__(self, config: Any, folder: Path, first: int, dataset: TrainingDataset, processes: int = 1) -> None:
        """`dataset`: the training data, from which it reads the step's first image once more.

        Raises:
            ImportError: the package is missing.
        """
        from torch.utils.tensorboard import SummaryWriter

        self.config, self.dataset, self.images = config, dataset, config.train.batch_size * processes
        self.every = min(config.train.tensorboard_step, max(1, config.train.max_iteration // POINTS))
        self.writer = SummaryWriter(str(folder / "tensorboard"), purge_step=first)

    def __call__(self, step: int, losses: Record, task: Task) -> None:
        """Record the step if a record is due."""
        done = step + 1
        if done % self.every and done != self.config.train.max_iteration:
            return
        for name, value in losses.items():
            if name != "step":
                known = name == "total" or name in task.weights
                self.writer.add_scalar(f"loss/{name}" if known else name, value, step)
        self.writer.add_scalar("learning_rate", learning_rate(self.config.train, step), step)
        self.writer.add_image("batch", self._sheet(step, task), step, dataformats="HWC")

    @torch.no_grad()
    def _sheet(self, step: int, task: Task) -> np.ndarray:
        """(H, W, 3) uint8: the batch's first image, the task's pictures of it, and the names of the classes."""
        item = self.dataset[step * self.images]
        batch = {key: value[None] if isinstance(value, Tensor) else [value] for key, value in item.items()}
        mode = task.training
        task.eval()
        pictures = task.pictures(to_device(batch, next(task.parameters()).device))
        task.train(mode)
        cells = {"image": photo(self.config, batch), **pictures}
        sheet = grid([list(cells.values())], list(cells))
        names, palette = self.config.dataset.class_names, class_palette(self.config.dataset.background)
        if names:
            sheet = np.concatenate([sheet, legend(names, palette[: len(names)], sheet.shape[1])])
        return sheet

    def close(self) -> None:
        """Write what is left."""
        self.writer.close()


def short(name: str) -> str:
    """Return the initials of a term with several words, for the progress bar."""
    return name if "_" not in name else "".join(word[0] for word in name.split("_"))


def clock(seconds: float) -> str:
    """0:12:05, of hours, minutes and seconds."""
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}"
