"""What input files held when they were read: a later run of the same work reads only those that have changed.

A table of two numbers a file, 16 bytes: a hash of its path, size and times, and the hash of its content. So the
restart of a run over a million files asks for their sizes and times, instead of reading all of them once more.
"""

import contextlib
import hashlib
import os
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from spml import members
from spml.errors import UserError
from spml.files import write_atomically
from spml.processes import rank

FOLDER = "record.inputs"  # beside the record
SUFFIX = ".hashes"  # tables as numpy writes them, but no `.npy` of a memory or of CAMs
MERGED = f"all{SUFFIX}"
FRESH = 2.0  # seconds; a file that was written just now may be written again without another time
EVERY = 60.0  # seconds between two writings


def stamp_of(path: str | Path, now: float) -> int:
    """A hash of path, size and times; 0 for a file that is missing, or so new that its times say little."""
    try:
        found = members.stamp(path)
    except OSError:
        return 0
    if now - max(found[1], found[2]) / 1e9 < FRESH:
        return 0
    text = f"{os.path.abspath(path)} {found}".encode("utf-8", "surrogateescape")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")


class Ledger:
    """The table of a folder. Several processes read one table, and each writes what it adds beside it."""

    def __init__(self, folder: str | Path | None) -> None:
        """`folder`: None for a ledger that remembers nothing."""
        self.folder = None if folder is None else Path(folder)
        self._own = _read(self.folder / f"{rank()}{SUFFIX}") if self.folder else _empty()
        self._rows = _sorted([_read(path) for path in self._paths()])
        self._written = time.monotonic()

    def known(self, stamp: np.ndarray) -> np.ndarray:
        """The hashes of contents of these stamps, uint64 of any shape; 0 where there is none."""
        if not len(self._rows):
            return np.zeros_like(stamp)
        place = np.searchsorted(self._rows[:, 0], stamp).clip(max=len(self._rows) - 1)
        found = (self._rows[place, 0] == stamp) & (stamp != 0)
        return np.where(found, self._rows[place, 1], np.uint64(0))

    def add(self, stamp: np.ndarray, content: np.ndarray) -> None:
        """Note the hashes of contents, and write them now and then, so that a killed process has not read in vain."""
        self._own = np.concatenate([self._own, np.stack([stamp.ravel(), content.ravel()], 1)])
        if self.folder is not None and time.monotonic() - self._written > EVERY:
            _write(self.folder / f"{rank()}{SUFFIX}", self._own)
            self._written = time.monotonic()

    def merge(self, stamp: np.ndarray, content: np.ndarray) -> None:
        """Replace all tables of the folder by one, of what all processes found. One process calls this."""
        rows = np.stack([stamp.ravel(), content.ravel()], 1)
        rows = _sorted([rows[(rows != 0).all(1)]])
        if self.folder is None or not len(rows):
            return
        paths = list(self._paths())
        if len(rows) != len(self._rows) or (rows != self._rows).any() or [path.name for path in paths] != [MERGED]:
            _write(self.folder / MERGED, rows)
        for path in paths:
            if path.name != MERGED:
                path.unlink(missing_ok=True)

    def _paths(self) -> Iterable[Path]:
        return sorted(self.folder.glob(f"*{SUFFIX}")) if self.folder is not None else ()


def _empty() -> np.ndarray:
    return np.zeros((0, 2), np.uint64)


def _sorted(tables: list[np.ndarray]) -> np.ndarray:
    """The rows of all tables, by stamp, each stamp once."""
    rows = np.concatenate([_empty(), *tables])
    _, first = np.unique(rows[:, 0], return_index=True)
    return rows[first]


def _read(path: Path) -> np.ndarray:
    """A table; an empty one where the file is missing or not one: then the files are read again."""
    with contextlib.suppress(OSError, ValueError, EOFError):
        rows = np.load(path, allow_pickle=False)
        if rows.ndim == 2 and rows.shape[1] == 2 and rows.dtype == np.uint64:
            return rows
    return _empty()


def _write(path: Path, rows: np.ndarray) -> None:
    with contextlib.suppress(UserError):  # a full disk will be met by the work itself
        write_atomically(path, lambda file: np.save(file, rows, allow_pickle=False))
