"""Reads the next images while the network is busy."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Read = TypeVar("Read")


def read_ahead(items: Iterable[Item], read: Callable[[Item], Read], ahead: int = 2) -> Iterator[tuple[Item, Read]]:
    """Yield each item with the result of `read`, in order. One thread reads, and at most `ahead` results wait.

    Decoding releases Python's lock, so one thread keeps up with a GPU, and on the CPU it slows the network little. An
    error of `read` is raised when its item is due.
    """
    line: deque[tuple[Item, Future[Read]]] = deque()
    pool = ThreadPoolExecutor(1)
    try:
        for item in items:
            line.append((item, pool.submit(read, item)))
            if len(line) > ahead:
                first, result = line.popleft()
                yield first, result.result()
        while line:
            first, result = line.popleft()
            yield first, result.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
