"""Training batches from image files: images a second and core, and the cores that a node of four GPUs needs."""

import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from _measure import parse
from PIL import Image

from spml.cli.exits import run
from spml.config import load_config
from spml.data.dataset import build_training_loader

GPUS, RATES = 4, (10, 20, 40)  # images a second that a GPU trains: to be read off benchmarks/step.py on that GPU


def write_samples(folder: Path, count: int, size: tuple[int, int]) -> None:
    """Write random JPEGs of VOC's size with two label files each, and their list."""
    rng = np.random.default_rng(0)
    lines = []
    for number in range(count):
        coarse = rng.integers(0, 256, (size[0] // 8, size[1] // 8, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize(size[::-1], Image.Resampling.BICUBIC).save(folder / f"{number}.jpg", quality=90)
        for kind, high in (("semantic", 21), ("region", 60)):
            label = rng.integers(0, high, (size[0] // 25, size[1] // 25), dtype=np.uint8)
            Image.fromarray(label).resize(size[::-1], Image.Resampling.NEAREST).save(folder / f"{kind}{number}.png")
        lines.append(f"{number}.jpg semantic{number}.png region{number}.png\n")
    (folder / "list.txt").write_text("".join(lines))


def images_per_second(folder: Path, steps: int, crop: int, batch: int) -> float:
    """Images a second that one process on one thread reads, augments and puts into batches, the first batch apart."""
    config = load_config(
        None,
        [
            "num_threads=0",
            f"dataset.data_dir={folder}",
            f"dataset.train_data_list={folder / 'list.txt'}",
            f"train.crop_size=[{crop},{crop}]",
            f"train.batch_size={batch}",
            f"train.max_iteration={steps + 1}",
            "train.warmup_iteration=0",
        ],
    )
    batches = iter(build_training_loader(config))
    next(batches)
    start = time.perf_counter()
    images = sum(len(batch["image"]) for batch in batches)
    return images / (time.perf_counter() - start)


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(__doc__ or "", arguments)
    size, crop, steps, batch = ((60, 80), 64, 2, 2) if options.quick else ((375, 500), 512, 15, 4)
    folder, threads = Path(tempfile.mkdtemp()), cv2.getNumThreads()
    cv2.setNumThreads(0)  # one core, as in each of the loader's processes
    try:
        write_samples(folder, 8, size)
        rate = images_per_second(folder, steps, crop, batch)
    finally:
        cv2.setNumThreads(threads)
        shutil.rmtree(folder)
    print(f"\nloader, {size[1]} x {size[0]} JPEG and two label files -> crop {crop}, batch {batch}")
    print(f"{rate:.1f} images/s and core")
    for wanted in RATES:
        print(f"a node of {GPUS} GPUs at {wanted} images/s each: {GPUS * wanted / rate:.1f} cores")


if __name__ == "__main__":
    run(main)
