"""Images read while the network is busy with those before."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Read = TypeVar("Read")


def read_ahead(items: Iterable[Item], read: Callable[[Item], Read], ahead: int = 2) -> Iterator[tuple[Item, Read]]:
    """Each item with what `read` makes of it, in order; one thread reads, and at most `ahead` results wait.

    Decoding holds no lock of Python, so that one thread keeps up with a GPU, and on the CPU takes little from the
    network. An error of `read` is raised at its item's turn.
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
