"""Pools of processes and Ctrl-C: the parent alone hears it, and tells its processes to end."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def deaf_children() -> Iterator[None]:
    """Processes started inside ignore Ctrl-C from their first line on, where they would print a traceback each.

    Their parent cancels what is not begun and waits for the rest. It is deaf itself for the moment, so start them at
    once and leave.
    """
    if threading.current_thread() is not threading.main_thread():  # only that one may set signals
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
