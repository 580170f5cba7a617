"""Bytes that two and four processes send in a step: derived, counted at the collectives, read off the loopback."""

import socket
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing
import torch.nn.functional as F
from _measure import parse

from spml.cli.exits import run
from spml.engine.distributed import exchange
from spml.grouping import MemoryBank, Prototypes, Segments, grouping_losses
from spml.grouping.segments import segment_prototypes

CHANNELS, CLASSES, IMAGES = 64, 21, 4
RELATIONS = ("semantic_annotation", "semantic_cooccurrence", "image_similarity")
ROW = 4 * CHANNELS + 4 * (CHANNELS + 2) + 8 + 8 + CLASSES  # bytes of a segment: prototypes, label, image, tags
ROUNDS = 3
COUNTERS = Path("/proc/net/dev")  # Linux


def derive(segments: int, processes: int) -> float:
    """Bytes that one of `processes` sends in a step, each of which has `segments`.

    Rows are gathered once, for the losses and the bank; by a ring each process passes on the rows of all others.
    The prototypes' gradient is summed once over all rows, which in a ring costs twice its size.
    """
    gathered = (processes - 1) * segments * ROW
    summed = 2 * (processes - 1) / processes * (processes * segments) * 4 * CHANNELS
    return gathered + summed


def make_segments(pixels: int, count: int) -> Segments:
    """Segments of random unit embeddings, `count` of them over IMAGES images."""
    embedding = F.normalize(torch.randn(pixels, CHANNELS), dim=1).requires_grad_()
    joined = F.normalize(torch.randn(pixels, CHANNELS + 2), dim=1).requires_grad_()
    index = torch.arange(pixels) * count // pixels
    image = torch.arange(count) * IMAGES // count
    label, region = torch.randint(CLASSES, (count,)), torch.arange(count) // 2
    prototypes = segment_prototypes(embedding, index, count), segment_prototypes(joined, index, count)
    of_pixels = image[index], label[index], region[index]
    return Segments(embedding, joined, index, *of_pixels, *prototypes, image, label, region)


def loopback_bytes() -> int:
    """Bytes that this machine has sent to itself."""
    for line in COUNTERS.read_text().splitlines():
        name, _, numbers = line.partition(":")
        if name.strip() == "lo":
            return int(numbers.split()[8])
    return 0


class Counter:
    """Counts what a process hands to the collectives, as bytes that a ring sends for it."""

    def __init__(self) -> None:
        self.bytes = 0.0
        self.gather, self.reduce = dist.all_gather, dist.all_reduce

    def __enter__(self) -> "Counter":
        def all_gather(parts: list[torch.Tensor], own: torch.Tensor) -> Any:
            self.bytes += (len(parts) - 1) * own.nbytes
            return self.gather(parts, own)

        def all_reduce(value: torch.Tensor) -> Any:
            self.bytes += 2 * (dist.get_world_size() - 1) / dist.get_world_size() * value.nbytes
            return self.reduce(value)

        dist.all_gather, dist.all_reduce = all_gather, all_reduce
        return self

    def __exit__(self, *error: object) -> None:
        dist.all_gather, dist.all_reduce = self.gather, self.reduce


def step(pixels: int, segments: int) -> None:
    """Losses, gradients and bank of one step, as in training, without the network."""
    made = make_segments(pixels, segments)
    tag = torch.rand(IMAGES, CLASSES) < 0.2
    bank = MemoryBank(2)
    gathered = exchange().gather(Prototypes.of(made, tag), len(tag))
    losses = grouping_losses(
        made,
        tag,
        num_classes=CLASSES,
        concentration=dict.fromkeys(RELATIONS, 6.0),
        memory=bank,
        relations=RELATIONS,
        exchange=exchange(),
        gathered=gathered,
    )
    torch.stack(list(losses.values())).sum().backward()
    bank.append(made, tag, gathered)


def process(rank: int, world: int, port: int, cases: list[tuple[int, int]], folder: str) -> None:
    """One of the processes: counts every case and leaves the numbers of all in a file."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=world)
    found = []
    for pixels, segments in cases:
        sent = []
        for _ in range(ROUNDS):
            torch.manual_seed(rank)
            dist.barrier()
            before = loopback_bytes() if COUNTERS.exists() else 0
            with Counter() as counter:
                step(pixels, segments)
            dist.barrier()
            sent.append(((loopback_bytes() if COUNTERS.exists() else 0) - before) / world)
        found.append((counter.bytes, min(sent)))  # what other programs send to themselves only adds
    if rank == 0:
        torch.save(found, Path(folder) / "bytes.pth")
    dist.destroy_process_group()


def measure(world: int, cases: list[tuple[int, int]]) -> list[tuple[float, float]]:
    """Bytes that a process sent in each case: at the collectives, and over the loopback."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        multiprocessing.spawn(process, (world, port, cases, folder), nprocs=world)
        return torch.load(Path(folder) / "bytes.pth", weights_only=True)


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(__doc__ or "", arguments)
    cases = [(512, 50), (1024, 50), (1024, 100)] if options.quick else [
        (16384, 300), (65536, 300), (16384, 1200), (65536, 1200), (65536, 2853)
    ]  # fmt: skip
    for world, chosen in ((2, cases), (4, cases[::2])):
        print(f"\nexchange, {world} gloo processes, {CHANNELS} channels, {CLASSES} classes; bytes a process and step")
        print(f"{'pixels':>8} {'segments':>9} {'derived':>12} {'collectives':>12} {'loopback':>12}")
        for (pixels, segments), (counted, sent) in zip(chosen, measure(world, chosen), strict=True):
            print(f"{pixels:8} {segments:9} {derive(segments, world):12,.0f} {counted:12,.0f} {sent:12,.0f}")
    for gpus in (8, 64):
        print(f"derived for {gpus} GPUs of 2,853 segments each: {derive(2853, gpus) / 1e6:,.0f} MB a GPU and step")


if __name__ == "__main__":
    run(main)
