"""The nearest prototypes of a memory beside a full sort of it for every query."""

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from _measure import MB, Row, Work, alternate, find_peak, optional, parse, print_table
from torch import Tensor

from spml.cli.exits import run
from spml.propagate import retrieve
from spml.propagate.approximate import ApproximateMemory
from spml.propagate.retrieval import PRODUCT_BYTES

QUERIES, CHANNELS, K = 144, 64, 20


def plain_retrieve(query: Tensor, memory: Tensor, label: Tensor, k: int) -> Tensor:
    """The release's way: every query's whole row is sorted."""
    return label[(query @ memory.T).sort(dim=1, descending=True)[1][:, :k]]


def clustered(count: int) -> Tensor:
    """Unit rows around 2,000 directions, as prototypes of images are; of independent ones none is near another."""
    centres = F.normalize(torch.randn(2000, CHANNELS), dim=1)
    return F.normalize(
        centres[torch.randint(2000, (count,))] + 0.6 * torch.randn(count, CHANNELS) / CHANNELS**0.5, dim=1
    )


def faiss_row(query: Tensor, memory: Tensor, options: argparse.Namespace) -> list[Row]:
    """Ours beside the exact index of faiss, filled beforehand; on the CPU, where the package is installed."""
    faiss = optional("faiss") if options.device.type == "cpu" else None
    if faiss is None:
        return []
    faiss.omp_set_num_threads(options.threads)
    index, rows, number = faiss.IndexFlatIP(CHANNELS), query.numpy(), torch.arange(len(memory))
    index.add(memory.numpy())
    same = float((retrieve(query, memory, number, K)[0] == torch.from_numpy(index.search(rows, K)[1])).float().mean())
    a, b = alternate(
        lambda: retrieve(query, memory, number, K), lambda: index.search(rows, K), options.device, options.repeat
    )
    return [Row(f"against faiss, exact ({100 * same:.2f} % the same rows)", a, replace(b, bytes=0.0))]


def approximate(prototypes: int, repeat: int) -> None:
    """Recall and time of the index beside the exact way, by the share of the lists that is searched."""
    rows = clustered(prototypes + QUERIES)
    query, memory, number = rows[:QUERIES], rows[QUERIES:], torch.arange(prototypes)
    exact = retrieve(query, memory, number, K)[0]
    start = time.perf_counter()
    index = ApproximateMemory(memory, number)
    print(
        f"\nfaiss, {prototypes:,} prototypes: {index.index.nlist} lists, built in {time.perf_counter() - start:.1f} s"
    )
    for probed in (64, 16, 4, 1):
        index.index.nprobe = max(index.index.nlist // probed, 1)
        found = index.retrieve(query, K)[0]
        recall = float((found[:, :, None] == exact[:, None, :]).any(2).float().mean())
        a, b = alternate(
            lambda: index.retrieve(query, K),
            lambda: retrieve(query, memory, number, K),
            torch.device("cpu"),
            repeat,
            memory=False,
        )
        print(
            f"1 list in {probed:2}: recall@{K} {100 * recall:5.1f} %, {a.seconds:.4f} s; exact {b.seconds:.4f} s; "
            f"ratio {a.seconds / b.seconds:.3f}"
        )


def main(arguments: Sequence[str] | None = None) -> None:
    def more(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--faiss", action="store_true", help="also an approximate index, with its recall")
        parser.add_argument("--prototypes", default=300_000, type=int, help="of the memory")

    options = parse(__doc__ or "", arguments, more)
    prototypes = 5000 if options.quick else options.prototypes
    query = F.normalize(torch.randn(QUERIES, CHANNELS), dim=1).to(options.device)
    memory = F.normalize(torch.randn(prototypes, CHANNELS), dim=1).to(options.device)
    label = torch.randint(21, (prototypes,), device=options.device)
    ours = retrieve(query, memory, label, K)[0]
    equal = float((ours == plain_retrieve(query, memory, label, K)).float().mean())
    a, b = alternate(
        lambda: retrieve(query, memory, label, K),
        lambda: plain_retrieve(query, memory, label, K),
        options.device,
        options.repeat,
    )
    work = Work(flops=2.0 * QUERIES * prototypes * CHANNELS, bytes=4.0 * prototypes * (CHANNELS + 2 * QUERIES))
    print_table(
        f"retrieval, {QUERIES} queries, {prototypes:,} prototypes, {K} nearest ({100 * equal:.2f} % equal labels)",
        [Row("against a full sort", a, b, 0.1, None, work), *faiss_row(query, memory, options)],
        find_peak(options.device, options.quick),
    )
    beyond = (a.bytes - min(PRODUCT_BYTES, 4 * QUERIES * prototypes)) / MB
    print(f"memory beyond the product's chunk: {beyond:.1f} MB (target <= 64 MB)")
    if options.faiss:
        approximate(prototypes, options.repeat)


if __name__ == "__main__":
    run(main)
