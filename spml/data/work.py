"""The same work on each file of a list, in this process or in several, and the hash of what goes into it."""

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import cv2
import numpy as np

from spml import records
from spml.data.samples import Sample
from spml.errors import UserError
from spml.processes import pool
from spml.progress import progress


def count_workers(num_workers: int | None, tasks: int, tasks_each: int = 1) -> int:
    """Processes for so many tasks: `num_workers`, or one for each core and at most one for `tasks_each` tasks.

    0 and 1 mean this process. Raises: UserError below 0.
    """
    if num_workers is not None and num_workers < 0:
        raise UserError(f"--num_workers: expected 0 or more, got {num_workers}")
    return min(os.cpu_count() or 1, tasks // tasks_each) if num_workers is None else min(num_workers, tasks)


def each(
    function: Callable[..., Any], tasks: Sequence[tuple], workers: int, title: str, unit: str = "image"
) -> Iterator[Any]:
    """The results of `function` for the tasks, in their order. Standard error gets the progress.

    Args:
        function: a function that processes can import, or a `functools.partial` of one.
        tasks: its arguments, which are sent to the processes.
        workers: processes of one thread each; 0 and 1 work in this one. The first error of a task ends the work.
    """
    if workers <= 1:
        for task in progress(tasks, title, unit=unit):
            yield function(*task)
        return
    with pool(workers, cv2.setNumThreads, (1,)) as executor:
        futures = [executor.submit(function, *task) for task in tasks]
        for future in progress(futures, title, unit=unit):
            yield future.result()


def hash_parts(samples: Sequence[Sample], *parts: str) -> dict[str, str]:
    """Hashes of what goes into work on samples: of their names, and of the contents of each part, in any order.

    Args:
        parts: some of "image", "label" and "regions"; those that no sample has are left out.
    """
    ordered = sorted(samples, key=lambda sample: sample.name)
    names = "\n".join(sample.name for sample in ordered).encode()
    hashes = {"names": records.hash_array(np.frombuffer(names, np.uint8))}
    for part in parts:
        sources = [source for sample in ordered if (source := getattr(sample, part)) is not None]
        if sources:
            hashes[part] = records.hash_files(sources)
    return hashes
