"""Progress of a loop: a bar on a terminal, a line every half minute in a log file."""

import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

Item = TypeVar("Item")
EVERY = 30.0  # seconds between two lines


def progress(
    items: Iterable[Item], title: str, total: int | None = None, unit: str = "image", *, quiet: bool = False
) -> Iterator[Item]:
    """Yield the items, and print to standard error how many are done.

    Args:
        total: their number, if `items` has no length.
        quiet: print nothing, as all but one of several processes do.
    """
    if quiet:
        yield from items
        return
    if sys.stderr.isatty():
        from tqdm import tqdm

        yield from tqdm(items, title, total, unit=unit)
        return
    if total is None and isinstance(items, Sized):
        total = len(items)
    start = last = time.monotonic()
    for done, item in enumerate(items):
        now = time.monotonic()
        if now - last >= EVERY:
            print(_line(title, done, total, unit, now - start), file=sys.stderr, flush=True)
            last = now
        yield item


def _line(title: str, done: int, total: int | None, unit: str, seconds: float) -> str:
    """`CAMs: 120 of 1464 images, 0.50 s each, 11 min left`."""
    if not done:
        return f"{title}: waiting for the first {unit}, {seconds:.0f} s"
    each = seconds / done
    if total is None:
        return f"{title}: {done} {unit}s, {each:.2f} s each"
    left = each * (total - done)
    return f"{title}: {done} of {total} {unit}s, {each:.2f} s each, {left / 60:.0f} min left"
