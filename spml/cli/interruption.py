"""Ctrl-C and SIGTERM during training: finish the step and save."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def interruption() -> Iterator[threading.Event]:
    """Yield the `stop` of `spml.train`, which Ctrl-C or SIGTERM sets; a second Ctrl-C ends the process at once.

    A SIGTERM does not: torchrun, or a queue, sends one after a Ctrl-C to processes that are about to save.
    Only the main thread may call this, as signals are its own.
    """
    stop = threading.Event()

    def note(number: int, frame: Any) -> None:
        if stop.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        stop.set()

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
