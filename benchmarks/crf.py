"""The dense CRF of inference in two processes beside one image after the other in line."""

import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from _measure import Cost, Row, parse, print_table

from spml.cli import run
from spml.engine.outputs import Refiner, refine_and_write
from spml.propagate import DenseCRF

CLASSES, PROCESSES = 21, 2
Sample = tuple[np.ndarray, np.ndarray]


def samples(count: int, size: tuple[int, int]) -> list[Sample]:
    """Images of soft coloured fields with noise, and probabilities that follow the fields: what a CRF is given."""
    rng = np.random.default_rng(0)
    made = []
    for _ in range(count):
        y, x = np.mgrid[: size[0], : size[1]] / 40.0
        field = np.sin(x + rng.uniform(0, 6)) + np.cos(y + rng.uniform(0, 6))
        image = 128 + 50 * field[..., None] * rng.uniform(-1, 1, 3) + rng.normal(0, 6, (*size, 3))
        score = rng.normal(0, 1, (CLASSES, *size))
        score[0] += 2 * field
        score[1] -= 2 * field
        probability = np.exp(score) / np.exp(score).sum(axis=0)
        made.append((image.clip(0, 255).astype(np.uint8), probability.astype(np.float32)))
    return made


def timed(work: Callable[[], None]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def in_processes(crf: DenseCRF, folder: Path, images: Sequence[Sample], size: tuple[int, int], workers: int) -> float:
    """Seconds from the first image handed over to the last one written; the processes have started before."""
    with Refiner(crf, workers) as refiner:
        for start in [refiner.pool.submit(time.sleep, 0.5) for _ in range(workers)]:
            start.result()
        begin = time.perf_counter()
        for number, (image, probability) in enumerate(images):
            refiner.submit(folder, str(number), image, probability, size)
        while refiner.waiting:
            refiner.waiting.popleft().result()
        return time.perf_counter() - begin


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(__doc__ or "", arguments)
    count, size = (4, (60, 80)) if options.quick else (20, (375, 500))
    images, crf = samples(count, size), DenseCRF()
    folder = Path(tempfile.mkdtemp())
    try:

        def in_line() -> None:
            for number, (image, probability) in enumerate(images):
                refine_and_write(crf, folder, str(number), image, probability, size)

        plain = Cost(timed(in_line))
        one = Cost(in_processes(crf, folder, images, size, 1))
        several = Cost(in_processes(crf, folder, images, size, PROCESSES))
    finally:
        shutil.rmtree(folder)
    rows = [
        Row("1 process beside the network", one, plain),
        Row(f"{PROCESSES} processes", several, plain),
        Row(f"{PROCESSES} processes against 1", several, one, 1 / 1.8),
    ]
    print_table(f"CRF, {count} images of {size[1]} x {size[0]}, {CLASSES} classes, written (plain: in line)", rows)
    print(f"{count / several.seconds:.2f} images/s in {PROCESSES} processes, {count / plain.seconds:.2f} in line")


if __name__ == "__main__":
    run(main)
