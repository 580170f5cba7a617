"""What inference writes: label images by name, refined by a CRF beside the network or on its GPU before."""

import os
from collections import deque
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from multiprocessing import get_context
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from spml.allocator import keep_memory
from spml.data.lists import IGNORE
from spml.files import write_atomically
from spml.inference.views import resize_label
from spml.processes import deaf_children
from spml.propagate.crf import DenseCRF
from spml.visualize.palette import colourise

LINE_BYTES = 1 << 29  # of probabilities, three images of 2 million pixels; a CRF takes some 15 times as much
GREY, COLOUR, CLUSTER = "semantic_gray", "semantic_color", "semantic_cluster"


def is_written(save_dir: str | Path, name: str) -> bool:
    """Whether the labels of image `name` are there, whole: the grey file is written last."""
    return (Path(save_dir) / GREY / f"{name}.png").exists()


def write_labels(save_dir: str | Path, name: str, label: np.ndarray) -> None:
    """Write (H, W) uint8 to `semantic_color/<name>.png`, by VOC's palette, and `semantic_gray/<name>.png`."""
    _write_png(Path(save_dir) / COLOUR / f"{name}.png", colourise(label))
    _write_png(Path(save_dir) / GREY / f"{name}.png", label.astype(np.uint8))


def write_clusters(save_dir: str | Path, name: str, index: np.ndarray) -> None:
    """Write segment ids (H, W), all below 65,536, to `semantic_cluster/<name>.png`, 16 bits a pixel."""
    if index.size and not 0 <= index.min() <= index.max() < 1 << 16:
        raise ValueError(f"expected segment ids in 0..65535, got {index.min()} to {index.max()}")
    _write_png(Path(save_dir) / CLUSTER / f"{name}.png", index.astype(np.uint16))


def _write_png(path: Path, pixels: np.ndarray) -> None:
    write_atomically(path, lambda file: Image.fromarray(pixels).save(file, format="PNG"))


def refine_and_write(
    crf: DenseCRF,
    save_dir: str | Path,
    name: str,
    image: np.ndarray,
    probability: np.ndarray | Tensor,
    size: tuple[int, int],
    void: np.ndarray | None = None,
) -> None:
    """Refine (K, h, w) probabilities on the image (h, w, 3), and write the best class at (H, W) = `size`.

    `void`: (H, W) bool, pixels that become 255.
    """
    label = resize_label(crf.label(image, probability), size)
    write_labels(save_dir, name, label if void is None else np.where(void, np.uint8(IGNORE), label))


class Refiner:
    """A pool of processes for `refine_and_write`, beside the network. Leaving the `with` block waits for all of them.

    At most two images a process are begun or wait, and of several at most LINE_BYTES of probabilities, so that the
    memory stays bounded. An error of a process is raised here.
    """

    def __init__(self, crf: DenseCRF, workers: int = 0) -> None:
        """`workers`: processes; 0 leaves one core to the network."""
        self.crf = crf
        self.workers = workers or max(1, (os.cpu_count() or 1) - 1)
        # spawned, as a fork of a process with threads or a CUDA context may hang
        self.pool = ProcessPoolExecutor(self.workers, mp_context=get_context("spawn"), initializer=_start_worker)
        self.waiting: deque[tuple[Future, int]] = deque()
        self.begun = 0

    def submit(
        self,
        save_dir: str | Path,
        name: str,
        image: np.ndarray,
        probability: np.ndarray | Tensor,
        size: tuple[int, int],
        void: np.ndarray | None = None,
    ) -> None:
        """Put an image in line; waits while the line is full. The arguments are those of `refine_and_write`."""
        size_in_line = probability.nbytes
        while self.waiting and (
            len(self.waiting) >= 2 * self.workers or sum(held for _, held in self.waiting) + size_in_line > LINE_BYTES
        ):
            self.waiting.popleft()[0].result()
        if isinstance(probability, Tensor):
            probability = probability.cpu().numpy()
        work = (self.crf, save_dir, name, image, probability, size, void)
        self.begun += 1
        with deaf_children() if self.begun <= self.workers else nullcontext():  # the first tasks start a process each
            self.waiting.append((self.pool.submit(refine_and_write, *work), size_in_line))

    def __enter__(self) -> "Refiner":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            while kind is None and self.waiting:
                self.waiting.popleft()[0].result()
        finally:
            self.pool.shutdown(wait=True, cancel_futures=True)


def _start_worker() -> None:
    """Nothing but the CRF runs here, on one thread."""
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    keep_memory()


class InlineRefiner:
    """Refines at once, in this process: for a CRF on the GPU, which takes less time than the way to another process."""

    def __init__(self, crf: DenseCRF) -> None:
        self.crf = crf

    def submit(
        self,
        save_dir: str | Path,
        name: str,
        image: np.ndarray,
        probability: np.ndarray | Tensor,
        size: tuple[int, int],
        void: np.ndarray | None = None,
    ) -> None:
        """Refine an image and write it. The arguments are those of `refine_and_write`."""
        refine_and_write(self.crf, save_dir, name, image, probability, size, void)


def open_refiner(crf: DenseCRF | None, workers: int = 0) -> AbstractContextManager[Refiner | InlineRefiner | None]:
    """What refines images by `crf`: `workers` processes, or this one where the CRF computes on a GPU. None without it.

    Raises:
        UserError: where the CRF's backend is missing.
    """
    if crf is None:
        return nullcontext()
    crf = crf.settle()
    if crf.backend == "torch" and crf.device is not None and crf.device.type != "cpu":
        return nullcontext(InlineRefiner(crf))
    return Refiner(crf, workers)
