"""Many files into as many label PNGs, in several processes."""

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import numpy as np
from tqdm import tqdm

from spml.data.annotate_list import write_label
from spml.data.samples import DataError
from spml.errors import UserError

Convert = Callable[[Path], np.ndarray]
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp")
FILES_PER_PROCESS = 100  # fewer are not worth the start of a process


def convert_files(
    sources: Sequence[Path],
    save_dir: str | Path,
    convert: Convert,
    *,
    description: str,
    num_workers: int | None = None,
    overwrite: bool = False,
) -> str:
    """Write `save_dir/<stem of source>.png`, the label (H, W) uint8 that `convert` makes of each source.

    Args:
        convert: a function that processes can import, or a `functools.partial` of one.
        description: of the progress bar.
        num_workers: processes; None: one for each core, fewer for few files. 0 and 1 work in this process.
        overwrite: make labels again that are there already.

    Returns: one line saying what was done.
    Raises: UserError for `num_workers` below 0, and whatever `convert` raises first.
    """
    if num_workers is not None and num_workers < 0:
        raise UserError(f"--num_workers: expected 0 or more, got {num_workers}")
    tasks = [(source, Path(save_dir) / f"{source.stem}.png") for source in sources]
    pending = [(source, target) for source, target in tasks if overwrite or not target.is_file()]
    workers = min(os.cpu_count() or 1, len(pending) // FILES_PER_PROCESS) if num_workers is None else num_workers
    for _ in tqdm(_run(pending, convert, workers), total=len(pending), desc=description, unit="file"):
        pass
    return f"{len(pending)} labels written to {save_dir}, {len(tasks) - len(pending)} were there already"


def _run(tasks: list[tuple[Path, Path]], convert: Convert, workers: int) -> Iterator[None]:
    """Do the tasks, here or in `workers` processes; the first error ends it."""
    if workers <= 1:
        for source, target in tasks:
            _one(source, target, convert)
            yield
        return
    context = multiprocessing.get_context("spawn")  # a fork of a process with threads can hang
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        try:
            for future in as_completed([pool.submit(_one, *task, convert) for task in tasks]):
                yield future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _one(source: Path, target: Path, convert: Convert) -> None:
    write_label(target, convert(source))


def find_files(folder: str | Path, suffixes: Sequence[str], names: Sequence[str] | None = None) -> list[Path]:
    """The files of a folder with one of these suffixes (in either case), sorted; with `names`, those with such a stem.

    Raises: DataError for no such folder, no such file in it, or names without a file (how many, and the first).
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"no such folder: {folder}")
    found = {path.stem: path for path in sorted(folder.iterdir()) if path.suffix.lower() in suffixes}
    if not found:
        raise DataError(f"{folder} has no file {' or '.join('*' + suffix for suffix in suffixes)}")
    if names is None:
        return list(found.values())
    missing = [name for name in names if name not in found]
    if missing:
        raise DataError(f"{folder}: no file for {len(missing)} of {len(names)} names, such as {missing[0]!r}")
    return [found[name] for name in names]
