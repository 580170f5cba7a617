"""Many files into as many label PNGs, in several processes."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from spml import records
from spml.data.annotate_list import write_label
from spml.data.samples import DataError
from spml.data.work import count_workers, each

Convert = Callable[[Path], np.ndarray]
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp")
MADE = ("*.png",)  # of the record
FILES_PER_PROCESS = 100  # fewer are not worth the start of a process


def convert_folder(
    kind: str,
    things: Mapping[str, Any],
    sources: Sequence[Path],
    save_dir: str | Path,
    convert: Convert,
    *,
    contents: Mapping[str, str] | None = None,
    num_workers: int | None = None,
    overwrite: bool = False,
) -> str:
    """`convert_files` into a folder with a record of the sources and of `things`, the settings.

    Args:
        kind: what the labels are, in the plural.
        contents: more hashes for the record, of other files that the labels depend on.

    Returns: one line saying what was done.
    Raises: UserError for a folder of other labels, unless `overwrite`; and as `convert_files`.
    """
    held = {"sources": records.hash_files(sources), **(contents or {})}
    records.start(save_dir, records.record_of(kind, things, held), made=MADE, overwrite=overwrite)
    told = convert_files(sources, save_dir, convert, description=kind, num_workers=num_workers, overwrite=overwrite)
    records.finish(save_dir)
    return told


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
    tasks = [(source, Path(save_dir) / f"{source.stem}.png", convert) for source in sources]
    pending = [task for task in tasks if overwrite or not task[1].is_file()]
    workers = count_workers(num_workers, len(pending), FILES_PER_PROCESS)
    for _ in each(_one, pending, workers, description, "file"):
        pass
    return f"{len(pending)} labels written to {save_dir}, {len(tasks) - len(pending)} were there already"


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
