"""Common parts of the benchmarks: time, peak extra memory, the best rates of this machine, and one table."""

import argparse
import gc
import importlib
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from spml.allocator import keep_memory

MB = 1 << 20


@dataclass
class Clock:
    """What the measurements read, in seconds."""

    read: Callable[[], float] = time.perf_counter


clock = Clock()


@dataclass(frozen=True)
class Cost:
    """Median seconds of a call and its largest memory beyond what was there before."""

    seconds: float
    bytes: float = 0.0


@dataclass(frozen=True)
class Work:
    """The least work of a computation: operations of products, exponentials, bytes read and written once."""

    flops: float = 0.0
    exps: float = 0.0
    bytes: float = 0.0


@dataclass(frozen=True)
class Row:
    """One line of the table: ours beside the plain way, the targets of the ratios, and the work of ours."""

    name: str
    ours: Cost
    plain: Cost
    time_target: float | None = None
    memory_target: float | None = None
    work: Work | None = None


@dataclass(frozen=True)
class Peak:
    """Measured rates of this machine, a second: product operations, exponentials, bytes moved."""

    flops: float
    exps: float
    bytes: float

    def limit(self, work: Work) -> float:
        """The least seconds that `work` can take: the largest of its three parts, as if they overlapped."""
        return max(work.flops / self.flops, work.exps / self.exps, work.bytes / self.bytes)


def parse(
    description: str,
    arguments: Sequence[str] | None = None,
    more: Callable[[argparse.ArgumentParser], None] | None = None,
) -> argparse.Namespace:
    """Read `--device --threads --quick --repeat` and what `more` adds, set up the process and return the options."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter, prog=None
    )
    parser.add_argument("--device", default="cpu", type=torch.device, help="where to compute: cpu, cuda or cuda:1")
    parser.add_argument("--threads", default=2, type=int, help="threads of the CPU")
    parser.add_argument("--repeat", default=3, type=int, help="runs, of which the median counts")
    parser.add_argument(
        "--busy", action="store_true", help="seconds of this process's CPU, where other work shares it; for one thread"
    )
    parser.add_argument("--quick", action="store_true", help="small sizes: whether it runs, not how fast it is")
    if more is not None:
        more(parser)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    if options.busy and options.threads != 1:
        parser.error("--busy adds up the seconds of all threads: it needs --threads 1")
    if options.busy:
        clock.read = time.process_time
    if options.device.type == "cpu":
        keep_memory()  # as in training and inference; for both ways
    return options


def optional(module: str) -> Any:
    """A package that only a comparison needs; None, and a line that says so, where it is missing."""
    try:
        return importlib.import_module(module)
    except ImportError:
        print(f"{module}: not installed, so no row for it")
        return None


def synchronise(device: torch.device) -> None:
    """Wait for the device, so that a clock reads what was done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def measure(call: Callable[[], object], device: torch.device, repeat: int = 3, memory: bool = True) -> Cost:
    """Run `call` once to warm up (and to read its memory), then `repeat` times."""
    extra = peak_memory(call, device) if memory else 0.0
    if not memory:
        call()
    seconds = []
    for _ in range(repeat):
        synchronise(device)
        start = clock.read()
        call()
        synchronise(device)
        seconds.append(clock.read() - start)
    return Cost(statistics.median(seconds), extra)


def alternate(
    ours: Callable[[], object], plain: Callable[[], object], device: torch.device, repeat: int = 3, memory: bool = True
) -> tuple[Cost, Cost]:
    """Measure both in turns, so that other load on the machine slows both alike."""
    first = [measure(call, device, 1, memory) for call in (ours, plain)]
    seconds: list[list[float]] = [[cost.seconds] for cost in first]
    for _ in range(repeat - 1):
        for series, call in zip(seconds, (ours, plain), strict=True):
            synchronise(device)
            start = clock.read()
            call()
            synchronise(device)
            series.append(clock.read() - start)
    a, b = (Cost(statistics.median(s), cost.bytes) for s, cost in zip(seconds, first, strict=True))
    return a, b


def peak_memory(call: Callable[[], object], device: torch.device) -> float:
    """Return the most bytes of tensors that `call` held at a time beyond those before it.

    On CUDA as the allocator counts them. On the CPU the profiler reports every allocation and release; their running
    sum is free of what an operating system keeps back or has not yet taken back.
    """
    gc.collect()
    if device.type == "cuda":
        synchronise(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        synchronise(device)
        return float(torch.cuda.max_memory_allocated(device) - before)
    cpu = [torch.profiler.ProfilerActivity.CPU]
    with _without_stderr(), torch.profiler.profile(activities=cpu, profile_memory=True) as profile:
        call()
    events = [e for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"]
    held = peak = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return float(peak)


@contextmanager
def _without_stderr() -> Iterator[None]:
    """Silence the messages that the profiler's library writes past Python."""
    kept = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def find_peak(device: torch.device, quick: bool = False, dtype: torch.dtype = torch.float32) -> Peak:
    """Measure the best rates of this machine: products, exponentials in the cache, a copy beyond the cache.

    Products are a large one of two matrices and a convolution: torch does them by two libraries, and on some CPUs one
    reaches twice the rate of the other. The better one counts.
    """
    large = device.type == "cuda"
    side = 256 if quick else 8192 if large else 1024
    a = torch.randn(side, side, device=device, dtype=dtype)
    product = measure(lambda: a @ a, device, 5, memory=False)
    channels, pixels = (32, 16) if quick else (256, 64)
    image = torch.randn(4, channels, pixels, pixels, device=device, dtype=dtype)
    image = image.contiguous(memory_format=torch.channels_last)
    weight = torch.randn(channels, channels, 3, 3, device=device, dtype=dtype)
    convolution = measure(lambda: F.conv2d(image, weight, padding=1), device, 5, memory=False)
    small = torch.rand(1 << (26 if large else 16), device=device)
    rounds = 1 if large else 16
    exponential = measure(lambda: [small.exp_().neg_() for _ in range(rounds)], device, 5, memory=False)
    source = torch.empty((1 << (22 if quick else 30 if large else 26)) // 4, device=device)
    target = torch.empty_like(source)
    copy = measure(lambda: target.copy_(source), device, 5, memory=False)
    return Peak(
        max(2 * side**3 / product.seconds, 2 * image.numel() * 9 * channels / convolution.seconds),
        rounds * small.numel() / exponential.seconds,
        2 * 4 * source.numel() / copy.seconds,
    )


def relative_error(ours: Tensor, plain: Tensor) -> float:
    """Return the largest difference, relative to the largest value."""
    return float((ours - plain).abs().max() / plain.abs().max().clamp(min=1e-30))


def print_table(title: str, rows: Sequence[Row], peak: Peak | None = None) -> None:
    """Print the rows: time, ratio and target; memory, ratio and target; the share of the limit that time reaches."""
    print(f"\n{title}")
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads" + _describe(peak))
    head = ["case", "ours", "plain", "ratio", "target", "ours MB", "plain MB", "ratio", "target", "limit", "reached"]
    lines = [head] + [_cells(row, peak) for row in rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    for line in lines:
        cells = [cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)]
        print("  ".join([line[0].ljust(widths[0]), *cells]).rstrip())


def _describe(peak: Peak | None) -> str:
    if peak is None:
        return ""
    return (
        f"; measured peaks: {peak.flops / 1e9:,.0f} GFLOP/s, {peak.exps / 1e9:.2f} G exp/s, {peak.bytes / 1e9:.1f} GB/s"
    )


def _cells(row: Row, peak: Peak | None) -> list[str]:
    memory = row.plain.bytes > 0
    limit = peak.limit(row.work) if peak and row.work else None
    return [
        row.name,
        f"{row.ours.seconds:.4f} s",
        f"{row.plain.seconds:.4f} s" if row.plain.seconds else "",
        f"{row.ours.seconds / row.plain.seconds:.3f}" if row.plain.seconds else "",
        f"<= {row.time_target:.2f}" if row.time_target else "",
        f"{row.ours.bytes / MB:.1f}" if row.ours.bytes else "",
        f"{row.plain.bytes / MB:.1f}" if memory else "",
        f"{row.ours.bytes / row.plain.bytes:.3f}" if memory else "",
        f"<= {row.memory_target:.2f}" if row.memory_target else "",
        f"{limit:.4f} s" if limit else "",
        f"{100 * limit / row.ours.seconds:.0f} %" if limit else "",
    ]
