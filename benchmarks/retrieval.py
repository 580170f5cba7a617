"""The nearest prototypes of a memory beside a full sort of it for every query."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from _measure import MB, Row, Work, alternate, find_peak, parse, print_table
from torch import Tensor

from spml.cli import run
from spml.propagate import retrieve
from spml.propagate.retrieval import PRODUCT_BYTES

QUERIES, CHANNELS, K = 144, 64, 20


def plain_retrieve(query: Tensor, memory: Tensor, label: Tensor, k: int) -> Tensor:
    """The release's way: every query's whole row is sorted."""
    return label[(query @ memory.T).sort(dim=1, descending=True)[1][:, :k]]


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(__doc__ or "", arguments)
    prototypes = 5000 if options.quick else 300_000
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
        [Row("against a full sort", a, b, 0.1, None, work)],
        find_peak(options.device, options.quick),
    )
    beyond = (a.bytes - min(PRODUCT_BYTES, 4 * QUERIES * prototypes)) / MB
    print(f"memory beyond the product's chunk: {beyond:.1f} MB (target <= 64 MB)")


if __name__ == "__main__":
    run(main)
