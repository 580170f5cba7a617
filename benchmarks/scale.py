"""A list of a million images: reading it, planning, hashing its files, finding what is done, and several processes.

The files are hard links to a few tiny ones. An image's work is a wait, as for a GPU, so that what is measured is what
the loop adds; the figures for 64 processes are derived from the parts, and the bytes that travel are counted.
"""

import argparse
import os
import resource
import socket
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch.distributed as dist
import torch.multiprocessing as multiprocessing
from _measure import parse
from exchange import COUNTERS, loopback_bytes
from PIL import Image

from spml.cli.exits import run
from spml.data.listed import names_of, only, take
from spml.data.lists import check_unique_names, read_list
from spml.data.prepare.pack import pack_list
from spml.data.samples import Sample
from spml.inference.loop import Job, _pending, go_through
from spml.inference.shares import _read, _rows_of, hash_list, owner_of, owners
from spml.ledger import Ledger

LINKS = 50_000  # names of one file: file systems bound them
FARM = 64  # processes that are derived
ROW = 2 * 3 * 8  # bytes of a sample that processes exchange: stamps and hashes of image, label and regions
CONFIG = SimpleNamespace(
    network=SimpleNamespace(pixel_means=[0.5] * 3, pixel_stds=[0.5] * 3),
    dataset=SimpleNamespace(num_classes=21, unlabelled_index=None),
)


def make(folder: Path, lines: int) -> Path:
    """A list `image label` of so many lines, and its files."""
    path = folder / f"list-{lines}.txt"
    if path.is_file():
        return path
    rng = np.random.default_rng(0)
    for kind, ending, shape in (("image", "jpg", (24, 32, 3)), ("label", "png", (24, 32))):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        for number in range(lines):
            name = f"{folder}/{kind}/{number:07d}.{ending}"
            if os.path.exists(name):
                continue
            if number % LINKS == 0:
                Image.fromarray(rng.integers(0, 20, shape).astype(np.uint8)).save(name)
            else:
                os.link(f"{folder}/{kind}/{number // LINKS * LINKS:07d}.{ending}", name)
    path.write_text("".join(f"image/{number:07d}.jpg label/{number:07d}.png\n" for number in range(lines)))
    return path


def objects(path: Path, folder: Path) -> list[Sample]:
    """The plain way: every sample is an object, and a step that needs fewer parts copies them all."""
    samples = [Sample(*(folder / entry for entry in line.split())) for line in path.read_text().splitlines()]
    return [replace(sample, label=None) for sample in samples] and samples


def lines_of(path: Path, folder: Path) -> Sequence[Sample]:
    """Ours."""
    samples = read_list(path, folder)
    return only(samples) and samples


def _resident() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def _call(connection: Any, call: Callable[..., Any], args: Sequence[Any]) -> None:
    before, start, cpu = _resident(), time.perf_counter(), time.process_time()
    kept = call(*args)
    connection.send((time.perf_counter() - start, time.process_time() - cpu, _resident() - before))
    del kept


def apart(call: Callable[..., Any], *args: Any) -> tuple[float, float, float]:
    """Seconds, seconds of the CPU and peak megabytes of a call in a process of its own."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_call, args=(there, call, args))
    process.start()
    there.close()
    found = here.recv()
    process.join()
    return found


def plan(path: Path, folder: Path) -> None:
    """What a process does before the first image, without files: names, and whose each image is."""
    samples = read_list(path, folder)
    check_unique_names(samples)
    owners(samples)


def look(path: Path, folder: Path, out: Path) -> None:
    """Which images are done."""
    job = Job("files", {}, lambda name: f"{name}.txt", ("*.txt",), lambda read, refiner: None)
    _pending(read_list(path, folder), job, out, overwrite=False)


def hashed(path: Path, folder: Path, ledger: Path) -> None:
    """Check and hash all files, but for those that the ledger knows."""
    hash_list(read_list(path, folder), Ledger(ledger))


def print_ratio(ours: Sequence[float], plain: Sequence[float]) -> None:
    seconds, cpu, memory = (one / max(other, 1e-9) for one, other in zip(ours, plain, strict=True))
    print(f"{'ratio':44} {seconds:8.2f}   ({cpu:6.2f})  {memory:8.2f}")


def print_list(folder: Path, lines: int, hash_lines: int) -> float:
    """One process: reading, planning, looking, hashing at first and again. Returns the seconds of a restart a line."""
    path = make(folder, lines)
    print(f"\n{lines:,} lines, one process: seconds (of the CPU), peak memory beyond the start")
    ours, plain = apart(lines_of, path, folder), apart(objects, path, folder)
    for name, found in (("read the list, as lines", ours), ("as objects", plain)):
        print(f"{name:44} {found[0]:8.1f} s ({found[1]:6.1f})  {found[2]:8.0f} MB")
    print_ratio(ours, plain)
    for name, call, args in (
        ("read it, names differ, shares", plan, (path, folder)),
        ("read it, look what is done", look, (path, folder, folder)),
    ):
        found = apart(call, *args)
        print(f"{name:44} {found[0]:8.1f} s ({found[1]:6.1f})  {found[2]:8.0f} MB")
    path = make(folder, hash_lines)
    time.sleep(3)  # the ledger does not believe the times of files that were written just now
    with tempfile.TemporaryDirectory() as ledger:
        first, again = (apart(hashed, path, folder, Path(ledger)) for _ in range(2))
    print(f"{hash_lines:,} lines, two files each:")
    for name, found in (("check and hash all files", first), ("again, by size and times", again)):
        print(f"{name:44} {found[0]:8.1f} s ({found[1]:6.1f})  {found[2]:8.0f} MB")
    print_ratio(again, first)
    return again[1] / hash_lines


@dataclass(frozen=True)
class Shared:
    """What several processes measured: seconds of all, of the work alone, bytes that each sent."""

    seconds: float
    again: float
    bytes: float


def _process(rank: int, world: int, port: int, path: Path, folder: Path, out: Path, wait: float) -> None:
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=world)
    target = "{}.txt"

    def work(read: Any, refiner: Any) -> None:
        time.sleep(wait)
        (out / target.format(read.name)).touch()

    job = Job("files", {}, lambda name: target.format(name), ("*.txt",), work)
    samples = read_list(path, folder)
    found = []
    for _ in range(2):
        dist.barrier()
        begin, sent = time.perf_counter(), loopback_bytes() if COUNTERS.exists() else 0
        go_through(CONFIG, samples, job, out)
        found += [time.perf_counter() - begin, ((loopback_bytes() if COUNTERS.exists() else 0) - sent) / world]
    if rank == 0:
        np.save(out / "found.npy", np.array(found))
    dist.barrier()
    dist.destroy_process_group()


def shared_by(world: int, path: Path, folder: Path, wait: float) -> Shared:
    """Time of `world` processes over a list, and of the same command again, when all is done."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    with tempfile.TemporaryDirectory() as out:
        multiprocessing.spawn(_process, (world, port, path, folder, Path(out), wait), nprocs=world)
        seconds, sent, again, _ = np.load(Path(out) / "found.npy").tolist()
    return Shared(seconds, again, sent)


def print_processes(folder: Path, lines: int, wait: float, farm_lines: int, restart: float) -> None:
    """Several processes on one list, and what follows for many."""
    path = make(folder, lines)
    names = list(names_of(read_list(path, folder)))
    print(f"\n{lines:,} images of {1000 * wait:g} ms each, gloo; bytes sent by each process over the loopback")
    print(
        f"{'processes':>9} {'largest share':>14} {'ideal':>8} {'measured':>9} "
        f"{'efficiency':>11} {'again':>8} {'bytes':>12}"
    )
    for world in (1, 2, 4):
        share = max(np.bincount([owner_of(name, world) for name in names]))
        found = shared_by(world, path, folder, wait)
        ideal = lines * wait / world
        print(
            f"{world:9} {share:14,} {ideal:6.1f} s {found.seconds:7.1f} s {100 * ideal / found.seconds:9.0f} % "
            f"{found.again:6.1f} s {found.bytes:12,.0f}"
        )
    share = max(np.bincount([owner_of(f"{number:07d}", FARM) for number in range(farm_lines)]))
    print(
        f"derived, {FARM} processes, {farm_lines:,} images: largest share {share:,}, so that "
        f"{100 * farm_lines / FARM / share:.1f} % of the time is work; {restart * share:.1f} s of the CPU in each to "
        f"start again; {ROW * farm_lines / 1e6:.0f} MB to each at the start, {ROW} bytes an image"
    )


def print_shards(folder: Path, lines: int) -> None:
    """Files against members of tars: listing, checking and hashing."""
    path = make(folder, lines)
    with tempfile.TemporaryDirectory() as packed:
        begin = time.perf_counter()
        made = pack_list(folder, path, packed, samples=5000, num_workers=1)
        tars = len(list(Path(packed).glob("*.tar")))
        print(f"\n{lines:,} samples into {tars} shards: {time.perf_counter() - begin:.1f} s")
        for name, where, listed in (("files", folder, path), ("members of tars", Path(packed), made)):
            begin, cpu = time.perf_counter(), time.process_time()
            samples = read_list(listed, where)
            seen = time.perf_counter()
            _read(_rows_of(samples), 3, np.arange(len(samples)), Ledger(None))
            end, used = time.perf_counter(), time.process_time() - cpu
            print(f"{name:18} list {seen - begin:6.2f} s, read and hash {end - seen:6.2f} s, {used:.2f} s of the CPU")
        assert [sample.name for sample in take(samples, [0, lines - 1])] == ["0000000", f"{lines - 1:07d}"]


def main(arguments: Sequence[str] | None = None) -> None:
    def more(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--lines", default=1_000_000, type=int, help="of the list")
        parser.add_argument("--hashed", default=1_000_000, type=int, help="of the list whose files are hashed")
        parser.add_argument("--worked", default=4000, type=int, help="of the list that several processes work on")
        parser.add_argument(
            "--folder", type=Path, help="where the files are made and kept; left out: removed after use"
        )

    options = parse(__doc__ or "", arguments, more)
    lines, hash_lines, worked = (400, 200, 40) if options.quick else (options.lines, options.hashed, options.worked)
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        restart = print_list(folder, lines, hash_lines)
        print_shards(folder, min(hash_lines, 20_000))
        print_processes(folder, worked, 0.005, lines, restart)


if __name__ == "__main__":
    run(main)
