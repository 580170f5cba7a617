"""Segments of a batch (k-means, split by labels, prototypes) beside k-means alone, image by image."""

import argparse
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from _bounds import bounded_kmeans
from _measure import Row, Work, alternate, find_peak, parse, print_table
from torch import Tensor

from spml.cli.exits import run
from spml.grouping import segment_by_kmeans
from spml.grouping.kmeans import grid_labels, location_features, spherical_kmeans

GRID, ROUNDS, CHANNELS = (6, 6), 10, 64


def plain_kmeans(embedding: Tensor, grid: tuple[int, int] = GRID) -> list[Tensor]:
    """The release's way: one image after the other, sums by scatter, nearest by a product and its maximum."""
    labels = []
    height, width = embedding.shape[2:]
    location = location_features(height, width, embedding.device).flatten(0, 1)
    for image in embedding:
        unit = F.normalize(image.flatten(1).T, dim=1)
        feature = F.normalize(torch.cat([unit, location], dim=1), dim=1)  # (N, C + 2)
        label = grid_labels(height, width, grid, embedding.device).flatten()
        for _ in range(ROUNDS):
            total = feature.new_zeros(grid[0] * grid[1], feature.shape[1])
            total.scatter_add_(0, label[:, None].expand_as(feature), feature)
            label = (feature @ F.normalize(total, dim=1).T).max(dim=1)[1]
        labels.append(label)
    return labels


def make_embeddings(batch: int, side: int) -> dict[str, Tensor]:
    """Like a network's, smooth over the image with a little noise; and noise alone, where a rounding moves pixels."""
    noise = torch.randn(batch, CHANNELS, side, side)
    coarse = torch.randn(batch, CHANNELS, side // 8, side // 8)
    smooth = F.interpolate(coarse, size=(side, side), mode="bilinear", align_corners=False)
    return {"smooth embedding": smooth + 0.05 * noise, "noise": noise}


def same_clusters(embedding: Tensor) -> float:
    """The share of pixels that both ways put in the same cluster."""
    ours = segment_by_kmeans(embedding, num_clusters=GRID, iterations=ROUNDS).index
    offset, equal, total = 0, 0, len(ours)
    for label in plain_kmeans(embedding):
        compact = torch.unique(label, return_inverse=True)[1]
        equal += int((ours[: len(label)] - offset == compact).sum())
        offset, ours = offset + int(compact.max()) + 1, ours[len(label) :]
    return equal / total


def bounds_rows(embedding: Tensor, options: argparse.Namespace) -> list[Row]:
    """k-means that skips pixels by bounds (ours in the table) beside the plain rounds, on the same rows."""
    batch, _, height, width = embedding.shape
    location = location_features(height, width).flatten(0, 1).expand(batch, -1, -1)
    feature = F.normalize(torch.cat([F.normalize(embedding, dim=1).flatten(2).transpose(1, 2), location], dim=2), dim=2)
    start = grid_labels(height, width, GRID).flatten().expand(batch, -1)
    valid, clusters = torch.ones_like(start, dtype=torch.bool), GRID[0] * GRID[1]
    rows = []
    for name, each in (("a bound a pixel", False), ("a bound a pixel and centre", True)):

        def bounded(each: bool = each) -> list[tuple[Tensor, float]]:
            return [
                bounded_kmeans(image, label, clusters, ROUNDS, each)
                for image, label in zip(feature, start, strict=True)
            ]

        def plain() -> Tensor:
            return spherical_kmeans(feature, start, valid, clusters, ROUNDS)

        result, exact = bounded(), plain()
        equal = float((torch.stack([label for label, _ in result]) == exact).float().mean())
        compared = sum(share for _, share in result) / batch
        a, b = alternate(bounded, plain, options.device, options.repeat)
        rows.append(Row(f"{name}: {100 * compared:.0f} % compared, {100 * equal:.3f} % equal", a, b))
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    def more(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--bounds", action="store_true", help="also rounds that skip pixels by bounds, on the CPU")

    options = parse(__doc__ or "", arguments, more)
    batch, side = (2, 32) if options.quick else (8, 128)
    coarse = F.interpolate(torch.rand(2, batch, 4, 4), size=(side, side)).to(options.device)
    semantic, instance = (coarse[0] * 4).long(), (coarse[1] * 9).long()
    clusters, pixels = GRID[0] * GRID[1], batch * side * side
    work = Work(flops=ROUNDS * 2 * pixels * clusters * (CHANNELS + 2), bytes=ROUNDS * 4 * pixels * (CHANNELS + 2))
    rows = []
    for name, embedding in make_embeddings(batch, side).items():
        embedding = embedding.to(options.device)

        def ours(embedding: Tensor = embedding) -> object:
            return segment_by_kmeans(embedding, semantic, instance, num_clusters=GRID, iterations=ROUNDS)

        def plain(embedding: Tensor = embedding) -> object:
            return plain_kmeans(embedding)

        with torch.no_grad():
            share = same_clusters(embedding)
            a, b = alternate(ours, plain, options.device, options.repeat)
        rows.append(Row(f"{name}, {100 * share:.2f} % of pixels in the same cluster", a, b, 0.8, None, work))
    print_table(
        f"k-means + segments + prototypes, {batch} x {side} x {side} x {CHANNELS}, {clusters} clusters, "
        f"{ROUNDS} rounds, against k-means alone, image by image",
        rows,
        find_peak(options.device, options.quick),
    )
    if options.bounds:
        for name, embedding in make_embeddings(batch, side).items():
            print_table(f"k-means by bounds against the plain rounds, {name}", bounds_rows(embedding, options))
    if options.device.type == "cuda":
        print(f"waits for the device in the k-means loop: {count_waits(embedding)}")


def count_waits(embedding: Tensor) -> int:
    """Return how often ten more rounds of k-means make the host wait for the GPU, by the profiler."""
    counts = []
    for rounds in (ROUNDS, 2 * ROUNDS):
        with torch.profiler.profile() as profile:
            segment_by_kmeans(embedding, num_clusters=GRID, iterations=rounds)
        names = [event.name for event in profile.events()]
        counts.append(sum(name in ("aten::item", "aten::nonzero", "cudaStreamSynchronize") for name in names))
    return counts[1] - counts[0]


if __name__ == "__main__":
    run(main)
