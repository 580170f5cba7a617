"""Writes label images by name. A CRF may refine them first, in processes beside the network or on its GPU."""

import os
from collections import deque
from concurrent.futures import Future
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from spml.allocator import keep_memory
from spml.data.dataset import EvaluationSample
from spml.data.samples import IGNORE
from spml.files import write_atomically
from spml.inference.views import resize_image, resize_label, to_pixels
from spml.processes import local_size, pool
from spml.propagate.crf import DenseCRF
from spml.visualize.palette import colourise

LINE_BYTES = 1 << 29  # of probabilities, three images of 2 million pixels; a CRF takes some 15 times as much
GREY, COLOUR, CLUSTER = "semantic_gray", "semantic_color", "semantic_cluster"
LABELS = ("*.png", f"../{COLOUR}/*.png")  # what `write_labels` makes, seen from the grey ones


def label_file(name: str) -> str:
    """The path of the labels of image `name` in a folder. This file is written last."""
    return f"{GREY}/{name}.png"


def write_labels(save_dir: str | Path, name: str, label: np.ndarray, background: int | None = 0) -> None:
    """Write (H, W) uint8 to `semantic_color/<name>.png`, by VOC's palette, and then to `semantic_gray/<name>.png`.

    `background`: the class that is black; None: no class is.
    """
    _write_png(Path(save_dir) / COLOUR / f"{name}.png", colourise(label, background))
    _write_png(Path(save_dir) / label_file(name), label.astype(np.uint8))


def write_clusters(save_dir: str | Path, name: str, index: np.ndarray) -> None:
    """Write segment ids (H, W), all below 65,536, to `semantic_cluster/<name>.png`, 16 bits a pixel."""
    if index.size and not 0 <= index.min() <= index.max() < 1 << 16:
        raise ValueError(f"expected segment ids in 0..65535, got {index.min()} to {index.max()}")
    _write_png(Path(save_dir) / CLUSTER / f"{name}.png", index.astype(np.uint16))


def _write_png(path: Path, pixels: np.ndarray) -> None:
    write_atomically(path, lambda file: Image.fromarray(pixels).save(file, format="PNG"))


@dataclass(frozen=True)
class Unrefined:
    """Probabilities of an image that a CRF refines before the labels are written.

    Args:
        save_dir, name: where the labels go; see `write_labels`.
        image: (h, w, 3) uint8.
        probability: (K, h, w) float.
        size: (H, W) of the labels.
        void: (H, W) bool, pixels that become 255.
        background: as in `write_labels`.
    """

    save_dir: str | Path
    name: str
    image: np.ndarray
    probability: np.ndarray | Tensor
    size: tuple[int, int]
    void: np.ndarray | None = None
    background: int | None = 0


def refine_and_write(crf: DenseCRF, work: Unrefined) -> None:
    """Refine the probabilities on the image, and write the best class of each pixel."""
    label = resize_label(crf.label(work.image, work.probability), work.size)
    write_labels(work.save_dir, work.name, with_void(label, work.void), work.background)


def write_image(
    config: Any,
    save_dir: str | Path,
    read: EvaluationSample,
    probability: Tensor,
    refiner: "Refining | None",
    void: np.ndarray | None = None,
) -> None:
    """Write the best class of each pixel at the image's own size, or pass the image to the refiner.

    Args:
        config: its section `network` has the means and deviations of `read.image`, `dataset` the background.
        probability: (K, h, w) float, at the size of the image or of a smaller version.
        void: (H, W) bool, pixels that become 255.
    """
    size, working = read.pixels.shape[:2], (probability.shape[1], probability.shape[2])
    background = config.dataset.background
    if refiner is None:
        label = resize_label(probability.argmax(0).cpu().numpy().astype(np.uint8), size)
        write_labels(save_dir, read.name, with_void(label, void), background)
        return
    pixels = to_pixels(resize_image(read.image, working), config.network.pixel_means, config.network.pixel_stds)
    refiner.submit(Unrefined(save_dir, read.name, pixels, probability.float(), size, void, background))


def with_void(label: np.ndarray, void: np.ndarray | None) -> np.ndarray:
    """A label with 255 where `void` (H, W) bool is true."""
    return label if void is None else np.where(void, np.uint8(IGNORE), label)


class Refining(Protocol):
    """Refines the probabilities of images and writes the labels."""

    def submit(self, work: Unrefined) -> None:
        """Refine an image and write it, now or soon."""


class Refiner:
    """A pool of processes for `refine_and_write`, beside the network. Leaving the `with` block waits for all of them.

    To bound the memory, it holds at most two images for each process, and, beyond a single image, at most LINE_BYTES of
    probabilities. It raises the errors of its processes.
    """

    def __init__(self, crf: DenseCRF, workers: int = 0) -> None:
        """`workers`: processes; 0 leaves one core to each network on this machine."""
        self.crf = crf
        self.workers = workers or max(1, (os.cpu_count() or 1) // local_size() - 1)
        self._context = pool(self.workers, _start_worker)  # spawned: a fork of a process with threads or a GPU may hang
        self.pool = self._context.__enter__()
        self.waiting: deque[tuple[Future, int]] = deque()

    def submit(self, work: Unrefined) -> None:
        """Queue an image; wait while the queue is full."""
        size_in_line = work.probability.nbytes
        while self.waiting and (
            len(self.waiting) >= 2 * self.workers or sum(held for _, held in self.waiting) + size_in_line > LINE_BYTES
        ):
            self.waiting.popleft()[0].result()
        if isinstance(work.probability, Tensor):
            work = replace(work, probability=work.probability.cpu().numpy())
        self.waiting.append((self.pool.submit(refine_and_write, self.crf, work), size_in_line))

    def __enter__(self) -> "Refiner":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            while kind is None and self.waiting:
                self.waiting.popleft()[0].result()
        except BaseException as other:
            self._context.__exit__(type(other), other, other.__traceback__)
            raise
        self._context.__exit__(kind, error, trace)


def _start_worker() -> None:
    """Limit this process to one thread; it runs only the CRF."""
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    keep_memory()


class InlineRefiner:
    """Refines at once, in this process: a CRF on the GPU is faster than passing images to another process."""

    def __init__(self, crf: DenseCRF) -> None:
        self.crf = crf

    def submit(self, work: Unrefined) -> None:
        """Refine an image and write it."""
        refine_and_write(self.crf, work)


def open_refiner(crf: DenseCRF | None, workers: int = 0) -> AbstractContextManager[Refining | None]:
    """The refiner for `crf`: `workers` processes, or this process if the CRF computes on a GPU; None without a CRF.

    Raises:
        UserError: where the CRF's backend is missing.
    """
    if crf is None:
        return nullcontext()
    crf = crf.with_backend()
    if crf.backend == "torch" and crf.device is not None and crf.device.type != "cpu":
        return nullcontext(InlineRefiner(crf))
    return Refiner(crf, workers)
