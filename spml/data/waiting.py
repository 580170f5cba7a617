"""Work that waits for files, in threads."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol, TypeVar

THREADS, BLOCK = 16, 64  # and the items that each takes at a time
Result = TypeVar("Result")


class Items(Protocol):
    """A sequence, or an array (N,)."""

    def __len__(self) -> int: ...

    def __getitem__(self, place: int, /) -> Any: ...


def in_threads(work: Callable[[Any], Result], items: Items) -> Iterator[Result]:
    """The results of `work` for the items, in order.

    A task is several items, and few tasks wait: of a million items, each would take a kilobyte.
    """

    def several(start: int) -> list[Result]:
        return [work(items[place]) for place in range(start, min(start + BLOCK, len(items)))]

    with ThreadPoolExecutor(THREADS) as pool:
        for first in range(0, len(items), THREADS * BLOCK):
            for results in pool.map(several, range(first, min(first + THREADS * BLOCK, len(items)), BLOCK)):
                yield from results
