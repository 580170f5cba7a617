"""Over-segmentations for a whole data list, in several processes."""

import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import cv2
from tqdm import tqdm

from spml.data.annotate_list import relative_path, write_label
from spml.data.lists import check_unique_names, given_entries, read_list, write_list
from spml.data.oversegment import MAX_SEGMENTS, load_method, oversegment
from spml.data.samples import DataError, Sample, read_image
from spml.errors import UserError
from spml.processes import deaf_children


def oversegment_list(
    data_dir: str | Path,
    data_list: str | Path,
    save_dir: str | Path,
    *,
    method: str = "hierarchy",
    threshold: float = 1.2,
    max_segments: int = MAX_SEGMENTS,
    num_workers: int | None = None,
    overwrite: bool = False,
    list_out: str | Path | None = None,
) -> int:
    """Write `save_dir/<name>.png` (uint8, ids 0..n-1) for every image of a list; see `oversegment` for the options.

    Args:
        num_workers: processes; None: one for each core. 0 and 1 work in this process.
        overwrite: make files again that are there already.
        list_out: a list to write: image and semantic label of `data_list`, over-segmentation, relative to `data_dir`.

    Returns: the number of files made.
    Raises: UserError for options out of range, a missing package and images that cannot be read.
    """
    load_method(method)
    _check(threshold, max_segments, num_workers)
    samples = read_list(data_list, data_dir)
    check_unique_names(samples)
    if list_out is not None:  # before the work: a path that it cannot hold shows at once
        write_list(list_out, _rows(samples, Path(data_dir), Path(save_dir)))
    pending = [(sample, Path(save_dir) / f"{sample.name}.png") for sample in samples]
    pending = [(sample, path) for sample, path in pending if overwrite or not path.is_file()]
    workers = min(os.cpu_count() or 1 if num_workers is None else num_workers, len(pending))
    tasks = [(sample, path, method, threshold, max_segments) for sample, path in pending]
    for _ in tqdm(_run(tasks, workers), total=len(tasks), desc="over-segmentation", unit="image"):
        pass
    return len(tasks)


def _run(tasks: list[tuple], workers: int) -> Iterator[None]:
    """Do the tasks, here or in `workers` processes; the first error ends it."""
    if workers <= 1:
        for task in tasks:
            _one(*task)
            yield
        return
    # Spawned, not forked: the caller may hold threads and a GPU.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=cv2.setNumThreads, initargs=(1,)) as pool:
        try:
            with deaf_children():
                futures = [pool.submit(_one, *task) for task in tasks]
            for future in as_completed(futures):
                yield future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _one(sample: Sample, path: Path, method: str, threshold: float, max_segments: int) -> None:
    label = oversegment(read_image(sample), method, threshold=threshold, max_segments=max_segments)
    write_label(path, label)


def _rows(samples: list[Sample], data_dir: Path, save_dir: Path) -> list[list[str]]:
    rows = []
    for sample in samples:
        if sample.label is None:
            raise DataError(f"{sample.where}: --list_out needs a list with semantic labels, expected 2 columns, got 1")
        given = given_entries(sample, data_dir, "image", "label")
        rows.append([*given, relative_path(save_dir / f"{sample.name}.png", data_dir)])
    return rows


def _check(threshold: float, max_segments: int, num_workers: int | None) -> None:
    if not threshold > 0:
        raise UserError(f"--threshold: expected a number above 0, got {threshold}")
    if not 1 <= max_segments <= MAX_SEGMENTS:
        raise UserError(f"--max_segments: expected 1 to {MAX_SEGMENTS}, got {max_segments}")
    if num_workers is not None and num_workers < 0:
        raise UserError(f"--num_workers: expected 0 or more, got {num_workers}")
