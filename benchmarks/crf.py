"""Compares the dense CRF in torch on the device with pydensecrf, and pydensecrf in two processes with one in line."""

import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from _measure import Cost, Row, Work, find_peak, parse, peak_memory, print_table, synchronise
from torch import Tensor

from spml.cli.exits import run
from spml.inference.outputs import Refiner, Unrefined, refine_and_write
from spml.propagate import DenseCRF
from spml.propagate.crf import has_pydensecrf

CLASSES, PROCESSES, BATCH = 21, 2, 4
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


def timed(work: Callable[[], object]) -> float:
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
            refiner.submit(Unrefined(folder, str(number), image, probability, size))
        while refiner.waiting:
            refiner.waiting.popleft()[0].result()
        return time.perf_counter() - begin


def compare_processes(images: Sequence[Sample], size: tuple[int, int]) -> None:
    """pydensecrf with what is written after it, in one process, beside the network's, and in two."""
    crf, count, folder = DenseCRF(backend="pydensecrf"), len(images), Path(tempfile.mkdtemp())
    try:

        def in_line() -> None:
            for number, (image, probability) in enumerate(images):
                refine_and_write(crf, Unrefined(folder, str(number), image, probability, size))

        plain = Cost(timed(in_line))
        one = Cost(in_processes(crf, folder, images, size, 1))
        several = Cost(in_processes(crf, folder, images, size, PROCESSES))
    finally:
        shutil.rmtree(folder)
    rows = [
        Row("1 process beside the network", one, plain),
        Row(f"{PROCESSES} processes", several, plain),
        Row(f"{PROCESSES} processes against 1 beside the network", several, one, 1 / 1.8),
    ]
    print_table(f"CRF, {count} images of {size[1]} x {size[0]}, {CLASSES} classes, written (plain: in line)", rows)
    print(f"{count / several.seconds:.2f} images/s in {PROCESSES} processes, {count / plain.seconds:.2f} in line")


def work_of(crf: DenseCRF, image: Tensor) -> Work:
    """What the mean field of images (B, H, W, 3) needs, given its lattices: each matrix and its values read once."""
    pixels = image.shape[:3].numel()
    flops = values = 0
    for kernel in crf.kernels(image):
        for matrix in (kernel.splat, *kernel.blur, kernel.slice):
            entries, rows = len(matrix.index), len(matrix.offset)
            flops += 2 * entries * CLASSES
            values += 8 * entries + 4 * rows + 4 * CLASSES * rows
        values += 4 * CLASSES * (pixels + sum(len(matrix.offset) for matrix in (kernel.splat, *kernel.blur)))
    exps = pixels * CLASSES
    return Work(crf.iterations * flops, crf.iterations * exps, crf.iterations * (values + 8 * exps))


def compare_backends(images: Sequence[Sample], device: torch.device, quick: bool) -> None:
    """From probabilities on the device to refined ones there, image by image and in batches, beside pydensecrf."""
    ours, theirs, count = DenseCRF(backend="torch"), DenseCRF(backend="pydensecrf"), len(images)
    image, probability = (torch.from_numpy(np.stack(part)).to(device) for part in zip(*images, strict=True))
    seconds, agree, distance = np.zeros(3), [], []  # of torch by images and by batches, and of pydensecrf
    sizes = (1, BATCH)
    extra = [peak_memory(lambda n=n: ours.batch(image[:n], probability[:n]), device) for n in sizes]  # and warms up

    def refine(start: int, size: int) -> Tensor:
        refined = ours.batch(image[start : start + size], probability[start : start + size])
        synchronise(device)
        return refined

    for start in range(0, count, BATCH):  # turn by turn, so that another load on the machine meets all alike
        chosen = range(start, min(start + BATCH, count))
        seconds[0] += timed(lambda chosen=chosen: [refine(number, 1) for number in chosen])
        seconds[1] += timed(lambda start=start: refine(start, BATCH))
        if has_pydensecrf():
            begin = time.perf_counter()
            expected = torch.from_numpy(np.stack([theirs(*images[number]) for number in chosen]))
            seconds[2] += time.perf_counter() - begin
            refined = refine(start, BATCH).cpu()
            agree.append((refined.argmax(1) == expected.argmax(1)).float().mean())
            distance.append((refined - expected).abs().mean())
    one = work_of(ours, image[:1])
    work = Work(one.flops * count, one.exps * count, one.bytes * count)
    rows = [
        Row(f"torch, {size} at a time", Cost(spent, held), Cost(seconds[2]), work=work)
        for size, spent, held in zip(sizes, seconds[:2], extra, strict=True)
    ]
    title = f"CRF in torch on {device}, {count} images, {CLASSES} classes (plain: pydensecrf)"
    print_table(title, rows, find_peak(device, quick))
    print(f"{count / seconds[0]:.1f} images/s one at a time, {count / seconds[1]:.1f} images/s {BATCH} at a time")
    if agree:
        share, mean = 100 * torch.stack(agree).mean(), torch.stack(distance).mean()
        print(f"{share:.3f} % of pixels as by pydensecrf, mean |dp| {mean:.1e}")


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(__doc__ or "", arguments)
    count, size = (4, (60, 80)) if options.quick else (20, (375, 500))
    images = samples(count, size)
    compare_backends(images, options.device, options.quick)
    if has_pydensecrf():
        compare_processes(images, size)


if __name__ == "__main__":
    run(main)
