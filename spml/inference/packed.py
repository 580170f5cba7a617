"""A memory in two files: what a million small files hold, for the many processes that read it.

`semantic_packed` lies beside `semantic_prototype`. It holds the prototypes (P, C) float32 and their labels (P,) int64
as plain arrays, which processes of one machine map into memory and so share.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from spml import records
from spml.errors import UserError
from spml.files import read_json, write_atomically, write_json

FOLDER = "semantic_packed"
PROTOTYPE, LABEL, INDEX, ORIGIN = "prototype.npy", "label.npy", "index.faiss", "origin.json"
ROWS = 1 << 16  # of prototypes that wait to be written


def pack(folder: Path, parts: Iterable[tuple[np.ndarray, np.ndarray]], count: int, record: records.Record) -> None:
    """Write the prototypes and labels of a memory, image by image, into two files.

    Args:
        folder: of the packed memory.
        parts: prototype (p, C) and label (p,) of each image.
        count: P, of all images, at least 1.
        record: of the memory; `read` compares it.

    Raises:
        UserError: the folder cannot be written, or the parts hold another number of prototypes.
    """
    for name in (ORIGIN, INDEX):
        (folder / name).unlink(missing_ok=True)
    labels = [np.zeros(0, np.int64)]

    def rows() -> Iterable[np.ndarray]:
        for prototype, label in parts:
            labels.append(label)
            yield prototype

    write_atomically(folder / PROTOTYPE, lambda file: _write_rows(file, rows(), count))
    label = np.concatenate(labels)
    if len(label) != count:
        raise UserError(f"{folder}: expected {count} prototypes, got {len(label)}: another run writes this memory")
    write_atomically(folder / LABEL, lambda file: np.save(file, label, allow_pickle=False))
    write_json(folder / ORIGIN, {"memory": _origin(record), "prototypes": count})


def read(folder: Path, record: records.Record | None) -> tuple[np.ndarray, np.ndarray] | None:
    """Prototypes (P, C) float32, mapped from the file, and labels (P,) int64; None if they are not those of the record.

    Raises:
        UserError: files that are damaged.
    """
    if record is None or not (folder / ORIGIN).is_file():
        return None
    held = read_json(folder / ORIGIN, "what `spml memory` wrote")
    if not isinstance(held, dict) or held.get("memory") != _origin(record):
        return None
    try:
        prototype = np.load(folder / PROTOTYPE, mmap_mode="c", allow_pickle=False)
        label = np.load(folder / LABEL, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"cannot read {folder}: {error}: remove it, `spml memory` makes it again") from error
    if prototype.ndim != 2 or label.shape != prototype.shape[:1] or len(label) != held.get("prototypes"):
        raise UserError(f"cannot read {folder}: {prototype.shape} and {label.shape}: remove it and run `spml memory`")
    return prototype, label


def _write_rows(file: object, parts: Iterable[np.ndarray], count: int) -> None:
    """An .npy file of `count` rows, without holding them all."""
    begun, waiting, held = False, list[np.ndarray](), 0
    for part in parts:
        if not begun:
            header = {"descr": "<f4", "fortran_order": False, "shape": (count, part.shape[1])}
            np.lib.format.write_array_header_1_0(file, header)  # type: ignore[arg-type]
            begun = True
        waiting.append(part.astype("<f4", copy=False))
        held += len(part)
        if held >= ROWS:
            file.write(np.concatenate(waiting).tobytes())  # type: ignore[attr-defined]
            waiting, held = [], 0
    for part in waiting:
        file.write(part.tobytes())  # type: ignore[attr-defined]


def _origin(record: records.Record) -> str:
    """What tells one memory from another."""
    return records.hash_json([record.kind, record.weights, record.settings, record.contents])
