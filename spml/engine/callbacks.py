"""What a person sees of a run: a progress bar, and TensorBoard's scalars and pictures."""

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from spml.engine import distributed
from spml.engine.optimizer import StepMomentumSGD
from spml.visualize.figures import embedding_to_rgb, grid
from spml.visualize.palette import colourise


class Monitor:
    """Progress of the first process; the others stay silent."""

    def __init__(self, config: Any, folder: Path, first: int, stage: str) -> None:
        self.config, self.writer = config, None
        self.active = distributed.rank() == 0
        if not self.active:
            return
        self.images = config.train.batch_size * distributed.world_size()
        interval = 0.1 if sys.stderr.isatty() else 10.0  # a log file wants few lines
        self.bar = tqdm(total=config.train.max_iteration, initial=first, desc=stage, mininterval=interval, unit="step")
        self.since, self.since_step = time.monotonic(), first
        try:
            from torch.utils.tensorboard import SummaryWriter

            self.writer = SummaryWriter(str(folder / "tensorboard"), purge_step=first)
        except ImportError:
            tqdm.write("no TensorBoard records: pip install tensorboard")

    def record(
        self, step: int, losses: Mapping[str, Tensor], optimizer: StepMomentumSGD, batch: Mapping[str, Any], task: Any
    ) -> None:
        """Take note of a finished step; `losses` are scalars by name."""
        if not self.active:
            return
        train = self.config.train
        if (step + 1) % train.log_step == 0:
            seconds = time.monotonic() - self.since
            speed = (step + 1 - self.since_step) * self.images / max(seconds, 1e-9)
            shown = {short(name): f"{float(value):.3f}" for name, value in losses.items()}
            self.bar.set_postfix({**shown, "images/s": f"{speed:.1f}"}, refresh=False)
            self.since, self.since_step = time.monotonic(), step + 1
        self.bar.update()
        if self.writer is not None and (step + 1) % train.tensorboard_step == 0:
            for name, value in losses.items():
                self.writer.add_scalar(f"loss/{name}", float(value), step)
            self.writer.add_scalar("learning_rate", optimizer.param_groups[0]["lr"], step)
            self.writer.add_image("batch", _picture(self.config, batch, task), step, dataformats="HWC")

    def close(self) -> None:
        """Finish bar and records."""
        if self.active:
            self.bar.close()
            if self.writer is not None:
                self.writer.close()


def short(name: str) -> str:
    """Return the initials of a term with several words, for the progress bar."""
    return name if "_" not in name else "".join(word[0] for word in name.split("_"))


@torch.no_grad()
def _picture(config: Any, batch: Mapping[str, Any], task: Any) -> np.ndarray:
    """Return (H, W, 3) uint8: the batch's first image and what the network makes of it."""
    mode = task.training
    task.eval()
    cells = task.picture(batch) if hasattr(task, "picture") else _embedding_cells(batch, task)
    task.train(mode)
    network, image = config.network, batch["image"][0].permute(1, 2, 0).numpy()
    image = image * np.array(network.pixel_stds) + np.array(network.pixel_means)
    cells = {"image": (image * 255).clip(0, 255).astype(np.uint8), **cells}
    return grid([list(cells.values())], list(cells))


def _embedding_cells(batch: Mapping[str, Any], task: Any) -> dict[str, np.ndarray]:
    """Return the labels of the first image, its embedding and the classifier's answer."""
    image = batch["image"][:1].to(next(task.parameters()).device)
    embedding = task.embedding_model(image, image.shape[-2:])
    embedding = torch.where(torch.isfinite(embedding), embedding, 0)  # the loss says that a run diverged, not a picture
    prediction = task.classifier(embedding).argmax(dim=1)[0].cpu().numpy().astype(np.uint8)
    return {
        "annotation": colourise(batch["semantic_label"][0].numpy().astype(np.uint8)),
        "over-segmentation": colourise(batch["instance_label"][0].numpy().astype(np.uint8)),
        "embedding": embedding_to_rgb(embedding[0].float().cpu()),
        "classifier": colourise(prediction),
    }
