"""Who does which image of a list, and hashes of the list's files, of which each process reads a share.

The share of a process follows from the names of the images and the number of processes alone. A list in another order
gives the same shares, and so does a longer one for the images that it had.
"""

import hashlib
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from spml import records
from spml.data.listed import PARTS, names_of, take
from spml.data.lists import check_files
from spml.data.samples import Sample
from spml.data.waiting import BLOCK, THREADS, in_threads
from spml.ledger import Ledger, stamp_of
from spml.processes import all_do, rank, world_size
from spml.progress import progress

Row = Sequence[Any]  # what belongs to a sample: paths, arrays, or None
RowAt = Callable[[int], Row]  # of a sample, by its place in the list
Check = Callable[[np.ndarray], None]  # of the samples at these places


def owner_of(name: str, processes: int) -> int:
    """The process, 0 to processes - 1, that does the image of a name."""
    return zlib.crc32(name.encode("utf-8", "surrogateescape")) % processes


def owners(samples: Sequence[Sample]) -> np.ndarray:
    """(N,) int64: the process of each sample."""
    return np.fromiter((owner_of(name, world_size()) for name in names_of(samples)), np.int64, len(samples))


def hash_list(samples: Sequence[Sample], ledger: Ledger) -> str:
    """What `hash_samples` returns, where each process checks and reads its share. All call it.

    The first process gets the hash. Files whose hash the ledger knows are passed over: they were checked, too.

    Raises:
        UserError: a file of this process's share that is missing or unusable, as `check_samples` has it.
    """

    content = _contents(samples, ledger)
    return _combine(samples, content) if rank() == 0 else ""


def hash_ordered(samples: Sequence[Sample], ledger: Ledger) -> str:
    """As `hash_list`, of the contents in the order of the list, which training depends on; equal to `hash_files`."""
    content = _contents(samples, ledger)
    return _digest(_lines(samples, content, range(len(samples)))) if rank() == 0 else ""


def _contents(samples: Sequence[Sample], ledger: Ledger) -> np.ndarray:
    """(N, 3) uint64 hashes of all samples' parts, of which this process checks and reads its share."""

    def check(places: np.ndarray) -> None:
        check_files(take(samples, places), "the list's" if len(places) == len(samples) else "the")

    return _read_shared(_rows_of(samples), len(PARTS), owners(samples), ledger, check)


def hash_samples(samples: Sequence[Sample]) -> str:
    """A hash of the samples' names and the contents of their images, labels and regions; their order does not count.

    This process reads all files.
    """
    _, content = _read(_rows_of(samples), len(PARTS), np.arange(len(samples)), Ledger(None))
    return _combine(samples, content)


def hash_beside(path_of: Callable[[str], Path], samples: Sequence[Sample]) -> str:
    """A hash of one file for each sample, such as its CAMs, in the order of names. All call it.

    The first process gets the hash.

    Args:
        path_of: the file for the name of a sample.

    Raises:
        UserError: a file of this process's share that cannot be read.
    """
    names = list(names_of(samples))
    content = _read_shared(lambda place: [path_of(names[place])], 1, owners(samples), Ledger(None))
    if rank() > 0:
        return ""
    order = sorted(range(len(names)), key=names.__getitem__)
    return _digest(f"{path_of(names[place]).name} {content[place, 0]:016x}" for place in order)


def _rows_of(samples: Sequence[Sample]) -> RowAt:
    def row(place: int) -> Row:
        sample = samples[place]
        return [getattr(sample, part) for part in PARTS]

    return row


def _read_shared(row: RowAt, width: int, owner: np.ndarray, ledger: Ledger, check: Check | None = None) -> np.ndarray:
    """(N, width) uint64 hashes of the contents of all rows, 0 for None; each process reads its own ones."""
    own = np.flatnonzero(owner == rank())
    parts = all_do(lambda: _read(row, width, own, ledger, check))
    stamp, content = (np.zeros((len(owner), width), np.uint64) for _ in range(2))
    for process, (found, hashed) in enumerate(parts):
        stamp[owner == process], content[owner == process] = found, hashed
    if rank() == 0:
        ledger.merge(stamp, content)
    return content


def _read(
    row: RowAt, width: int, places: np.ndarray, ledger: Ledger, check: Check | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Stamps and hashes, (P, width) uint64, of the rows at these places; 0 for None."""
    now = time.time()
    looks = in_threads(lambda place: [_look(part, now) for part in row(int(place))], places)
    look = np.array(list(looks), np.uint64).reshape(-1, width, 2)
    stamp, present = look[..., 0], look[..., 1] > 0
    content = ledger.known(stamp)
    unknown = np.flatnonzero((present & (content == 0)).any(1))
    if check is not None and len(unknown):
        check(places[unknown])
    hashed = in_threads(lambda place: [_hash(part) for part in row(int(place))], places[unknown])
    done = 0
    for number, found in enumerate(progress(hashed, "hashes of the files", len(unknown), quiet=rank() > 0), start=1):
        content[unknown[number - 1]] = found
        if number % (THREADS * BLOCK) == 0 or number == len(unknown):
            ledger.add(stamp[unknown[done:number]], content[unknown[done:number]])
            done = number
    return stamp, content


def _look(part: Any, now: float) -> tuple[int, bool]:
    """The stamp of a file, 0 for an array, and whether there is something to hash."""
    return (stamp_of(part, now) if isinstance(part, Path) else 0), part is not None


def _hash(part: Any) -> int:
    if part is None:
        return 0
    return int(records.hash_file(part) if isinstance(part, Path) else records.hash_array(part), 16)


def _combine(samples: Sequence[Sample], content: np.ndarray) -> str:
    """The hash of a list, from the names and the hashes (N, 3) of its samples' parts."""
    names = list(names_of(samples))
    order = sorted(range(len(names)), key=names.__getitem__)
    return records.hash_json([[names[place] for place in order], _digest(_lines(samples, content, order))])


def _lines(samples: Sequence[Sample], content: np.ndarray, order: Sequence[int]) -> Iterator[str]:
    """What is hashed of each part: the name of its file and its hash (N, 3)."""
    row = _rows_of(samples)
    for place in order:
        for part, hashed in zip(row(place), content[place], strict=True):
            if part is not None:
                yield f"{part.name} {hashed:016x}" if isinstance(part, Path) else f"{hashed:016x}"


def _digest(lines: Iterator[str]) -> str:
    digest = hashlib.sha256()
    for line in lines:
        digest.update(f"{line}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[: records.LENGTH]
