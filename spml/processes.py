"""Several processes: pools that a parent starts, and the processes that torchrun starts.

In a pool only the parent receives Ctrl-C, and tells its processes to end. If it is killed, they end by themselves.
"""

import atexit
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import Any, TypeVar

from spml.errors import INTERRUPTED, UserError

LINUX = sys.platform == "linux"
PR_SET_PDEATHSIG = 1  # of <sys/prctl.h>
Result = TypeVar("Result")
WAIT = timedelta(days=30)  # of a barrier: one process may have hours more to do than another


@contextmanager
def deaf_children() -> Iterator[None]:
    """Processes that start inside this context ignore Ctrl-C from the start; otherwise each would print a traceback.

    This thread receives a Ctrl-C of that time when it leaves the context.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # children start with the mask of this thread
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _Pool(ProcessPoolExecutor):
    """A pool whose processes ignore Ctrl-C from the start. It starts them on demand, so any submit may start one."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future:
        with deaf_children():
            return super().submit(fn, *args, **kwargs)


@contextmanager
def pool(
    workers: int,
    initializer: Callable[..., object] | None = None,
    initargs: Sequence[Any] = (),
    *,
    method: str = "spawn",
) -> Iterator[ProcessPoolExecutor]:
    """A pool of processes that ignore Ctrl-C and do not outlive this process.

    Leaving the context waits for all submitted tasks. After an error, or when a generator that holds the pool is
    closed, it waits for running tasks and cancels the others.

    Args:
        workers: number of processes, at least 1.
        initializer: called in each process before its first task, with `initargs`.
        method: "spawn", or "fork", which is faster and can hang where this process has threads or a GPU.
    """
    executor = _Pool(workers, mp_context=get_context(method), initializer=_begin, initargs=(initializer, initargs))
    try:
        yield executor
    except BaseException:
        executor.shutdown(wait=True, cancel_futures=True)
        raise
    executor.shutdown(wait=True)


def start(work: Callable[..., object], args: Sequence[Any], environment: Mapping[str, str]) -> Any:
    """Start a process that calls `work(*args)`, ignores Ctrl-C from the start, and does not outlive this process.

    Args:
        work: a function of a module; it and its arguments must pickle.
        environment: variables that the process has in addition.

    Returns:
        A `multiprocessing.Process`.
    """
    process = get_context("spawn").Process(target=_call, args=(work, args))
    before = {name: os.environ.get(name) for name in environment}
    os.environ.update(environment)  # a spawned process has the variables that this one has
    try:
        with deaf_children():
            process.start()
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
    return process


def _call(work: Callable[..., object], args: Sequence[Any]) -> None:
    _begin(None, ())
    work(*args)


def _begin(initializer: Callable[..., object] | None, initargs: Sequence[Any]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # programs that it starts decide for themselves
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if initializer is not None:
        initializer(*initargs)


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)  # a pool's process would wait for work for ever


def _end_with(launcher: int) -> None:
    """As `_end_with_parent`, for processes of torchrun, which would otherwise wait for each other for ever."""
    while os.getppid() == launcher:
        time.sleep(1)
    os._exit(1)


def own_environment() -> dict[str, str]:
    """The environment, in which a program finds the package of this process first."""
    paths = [str(Path(__file__).resolve().parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def run_program(words: Sequence[str]) -> int:
    """Run a program with the package of this process, wait for it, and return its status, or 130 after Ctrl-C.

    A Ctrl-C also reaches the program, which may save before it ends; a second one ends the wait. On Linux the program
    gets a SIGTERM when this process is killed; otherwise it would still run beside the next one.
    """
    process = subprocess.Popen(words, env=own_environment(), preexec_fn=_ask_for_end if LINUX else None)
    try:
        return process.wait()
    except KeyboardInterrupt:
        process.wait()
        return INTERRUPTED


def _ask_for_end() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def rank() -> int:
    """The number of this process, 0 in a run of one."""
    group = _group()
    return 0 if group is None else group.get_rank()


def world_size() -> int:
    """How many processes share the work."""
    group = _group()
    return 1 if group is None else group.get_world_size()


def local_size() -> int:
    """How many of them share this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if world_size() > 1 else 1


def say(text: str) -> None:
    """Print a line, by one process of all."""
    if rank() == 0:
        print(text, flush=True)


def barrier() -> None:
    """Wait until all processes are here.

    Raises:
        SystemExit: another process ended with an error, which it says.
    """
    gather(None)


def gather(thing: Any) -> list[Any]:
    """Gather one object from each process, in the order of ranks; all processes get the same list. It must pickle.

    Raises:
        SystemExit: another process ended with an error, which it says.
    """
    group = _group()
    if group is None:
        return [thing]
    things: list[Any] = [None] * group.get_world_size()
    try:
        group.all_gather_object(things, thing)
    except RuntimeError:  # the connection is closed
        raise SystemExit(1) from None
    return things


def all_do(work: Callable[[], Result]) -> list[Result]:
    """Do something in each process, and gather the results in the order of ranks.

    Raises:
        UserError: that of the first process that has one; only this process raises it.
        SystemExit: in the other processes.
    """
    thing, error = None, None
    try:
        thing = work()
    except UserError as found:
        error = found
    results = gather((thing, error is not None))
    failed = [number for number, (_, bad) in enumerate(results) if bad]
    if failed:
        if error is not None and failed[0] == rank():
            raise error
        raise SystemExit(1)
    return [result for result, _ in results]


def join(device: Any) -> Any:
    """Join the processes of torchrun, if there are any, to work on lists. Returns this process's device.

    The process leaves the others when it ends, and ends when torchrun is killed.

    Args:
        device: torch.device. With CUDA, each of several processes takes its own GPU of its machine.

    Raises:
        UserError: more processes on this machine than CUDA devices.
    """
    import torch.distributed as dist

    from spml.device import own_device

    if int(os.environ.get("WORLD_SIZE", "1")) < 2 or dist.is_initialized():
        return device
    device = own_device(device)
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    dist.init_process_group("gloo", timeout=WAIT)  # nothing but words and counts travel
    atexit.register(leave)
    return device


def leave() -> None:
    """Leave the processes that `join` joined."""
    group = _group()
    if group is not None:
        group.destroy_process_group()


@contextmanager
def shared_work(device: Any) -> Iterator[Any]:
    """`join`, and `leave` at the end of the block; yields this process's device."""
    own = _group() is None
    try:
        yield join(device)
    finally:
        if own:
            leave()


def _group() -> Any:
    """torch.distributed if processes are joined, else None. It does not import torch to find out."""
    dist = sys.modules.get("torch.distributed")
    return dist if dist is not None and dist.is_available() and dist.is_initialized() else None
