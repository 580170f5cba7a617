"""Retrieval by an index over the size of the memory: build, query, recall of the nearest, beside the exact way.

Give it two memories of `spml memory`: one to search in, and one of other images as queries. Smaller sizes are drawn
from the first; larger ones repeat it, each copy moved by noise that is as long as the way from a prototype to its
nearest neighbour of the same memory, and brought back to unit length. Without memories it makes directions up.
"""

import argparse
import gc
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from _measure import parse
from torch import Tensor

from spml.cli.exits import run
from spml.inference.memory import read_memory
from spml.propagate import majority_label, retrieve
from spml.propagate.approximate import ApproximateMemory, load_faiss

QUERIES, K = 144, 20
PROBED = (64, 16, 4)
CHUNK = 1 << 18
MANY = 2_000_000  # prototypes; beyond, the recall is of the timed queries alone


def resident() -> float:
    """Megabytes of this process that are not files."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) / 1e3
    return float("nan")


def made_up(count: int, channels: int = 64) -> Tensor:
    centres = F.normalize(torch.randn(2000, channels), dim=1)
    return F.normalize(
        centres[torch.randint(2000, (count,))] + 0.6 * torch.randn(count, channels) / channels**0.5, dim=1
    )


def nearest_distance(rows: Tensor) -> float:
    """The median way from a row to its nearest neighbour, of 1,000 rows."""
    chosen = rows[torch.randperm(len(rows))[:1000]]
    similarity = retrieve(chosen, rows, torch.arange(len(rows)), 2)[1][:, 1]
    return float((2 - 2 * similarity.clamp(max=1)).sqrt().median())


def enlarge(rows: Tensor, label: Tensor, size: int, length: float, path: Path) -> tuple[Tensor, Tensor]:
    """`size` rows of unit length, mapped from a file: those that are there, drawn, or with moved copies."""
    count, channels = rows.shape
    memory = torch.from_numpy(np.lib.format.open_memmap(path, "w+", np.float32, (size, channels)))
    order = torch.randperm(count)[: min(size, count)] if size < count else torch.arange(size) % count
    for start in range(0, size, CHUNK):
        part = rows[order[start : start + CHUNK]]
        noise = F.normalize(torch.randn_like(part), dim=1) * length
        copied = (torch.arange(start, start + len(part)) >= count)[:, None]
        memory[start : start + len(part)] = F.normalize(part + noise * copied, dim=1)
    return memory, label[order]


def seconds_of(call: Callable[[], Any], repeat: int = 1) -> tuple[float, Any]:
    """Seconds of the CPU, which other work on the machine changes little, and the result."""
    found = []
    for _ in range(repeat):
        begin = time.process_time()
        result = call()
        found.append(time.process_time() - begin)
    return min(found), result


def measure_size(rows: Tensor, label: Tensor, query: Tensor, size: int, length: float, repeat: int) -> None:
    """One line of the table for each share of the lists that is searched."""
    with tempfile.TemporaryDirectory() as folder:
        memory, memory_label = enlarge(rows, label, size, length, Path(folder) / "memory.npy")
        number = torch.arange(size)
        plain, (exact, _) = seconds_of(lambda: retrieve(query[:QUERIES], memory, number, K))
        if size <= MANY:
            exact = torch.cat([exact, retrieve(query[QUERIES:], memory, number, K)[0]])
        file = Path(folder) / "index.faiss"
        gc.collect()
        before = resident()
        built, index = seconds_of(lambda: ApproximateMemory(memory, number, file=file))
        held = resident() - before
        del index
        opened, index = seconds_of(lambda: ApproximateMemory(memory, number, file=file))
        kind = "real" if size <= len(rows) else "moved"
        for probed in PROBED:
            index.index.nprobe = max(index.index.nlist // probed, 1)
            asked, _ = seconds_of(lambda: index.retrieve(query[:QUERIES], K), repeat)
            found, _ = index.retrieve(query[: len(exact)], K)
            recall = [
                float((found[:, :, None] == exact[:, None, :k]).any(1).float().mean()) if k <= exact.shape[1] else 0.0
                for k in (1, K)
            ]
            same = float((majority_label(memory_label[found]) == majority_label(memory_label[exact])).float().mean())
            print(
                f"{size:11,} {kind:6} {index.index.nlist:6,} {built:8.1f} s {opened:6.2f} s {held:8.0f} MB  "
                f"1 in {probed:2} "
                f"{100 * recall[0]:6.1f} % {100 * recall[1]:6.1f} % {100 * same:6.1f} % "
                f"{1000 * asked:9.1f} ms {1000 * plain:9.1f} ms {asked / plain:7.3f}",
                flush=True,
            )


def main(arguments: Sequence[str] | None = None) -> None:
    def more(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--memory", type=Path, help="folder of a memory")
        parser.add_argument("--queries", type=Path, help="folder of a memory of other images")
        parser.add_argument("--classes", default=21, type=int, help="of both")
        parser.add_argument("--channels", default=64, type=int, help="of both")
        parser.add_argument("--sizes", default="10000,100000,1000000,10000000", help="of the memory, by commas")

    options = parse(__doc__ or "", arguments, more)
    load_faiss().omp_set_num_threads(options.threads)
    if options.memory and options.queries:
        rows, label = read_memory(options.memory, options.classes, options.channels)
        query, _ = read_memory(options.queries, options.classes, options.channels)
    else:
        rows = made_up(3000)
        rows, query, label = rows[:2000], rows[2000:], torch.randint(21, (2000,))
    rows, query = F.normalize(rows, dim=1), F.normalize(query, dim=1)
    query = query[torch.randperm(len(query))[:1000]]
    sizes = [1000, 4000] if options.quick else [int(size) for size in options.sizes.split(",")]
    sizes = sorted({*sizes, len(rows)})
    length = nearest_distance(rows)
    print(
        f"\n{len(rows):,} prototypes, {len(query):,} queries; @1, @{K}: how many of the nearest are found; "
        f"copies are moved by {length:.3f}; "
        f"seconds of the CPU, of {QUERIES} queries where they ask"
    )
    print(
        f"{'prototypes':>11} {'':6} {'lists':>6} {'build':>10} {'open':>8} {'memory':>11}  searched {'@1':>8} "
        f"{f'@{K}':>8} {'label':>8} {'index':>12} {'exact':>12} {'ratio':>7}"
    )
    for size in sizes:
        measure_size(rows, label, query, size, length, options.repeat)


if __name__ == "__main__":
    run(main)
