"""The random walk of class scores beside six squarings of the step matrix."""

from argparse import Namespace
from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from _measure import Row, Work, alternate, find_peak, optional, parse, print_table, relative_error
from torch import Tensor

from spml.cli.exits import run
from spml.propagate import random_walk
from spml.propagate.random_walk import chebyshev_weights

CHANNELS, CLASSES, POWER, SQUARINGS = 64, 21, 20, 6


def plain_walk(embedding: Tensor, score: Tensor) -> Tensor:
    """The release's way: T = A^20 with columns that sum to one, squared six times, then one product."""
    unit = F.normalize(embedding.flatten(1), dim=0)
    affinity = torch.exp(5 * (unit.T @ unit - 1)) ** POWER
    step = affinity / affinity.sum(dim=0, keepdim=True)
    for _ in range(SQUARINGS):
        step = step @ step
    return (score.flatten(1) @ step).reshape(score.shape)


def walker_row(embedding: Tensor, score: Tensor, options: Namespace) -> list[Row]:
    """Ours beside scikit-image's walker: another walk, between neighbours alone and from a seed a class."""
    walker = optional("skimage.segmentation") if options.device.type == "cpu" else None
    if walker is None:
        return []
    image = F.normalize(embedding, dim=0).permute(1, 2, 0).double().numpy()
    seeds = torch.zeros(score.shape[1:], dtype=torch.long)
    seeds.view(-1)[score.flatten(1).argmax(dim=1)] = torch.arange(1, len(score) + 1)

    def theirs() -> object:
        return walker.random_walker(image, seeds.numpy(), beta=10, mode="cg_j", channel_axis=-1, return_full_prob=True)

    a, b = alternate(lambda: random_walk(embedding, score), theirs, options.device, options.repeat)
    return [Row("against scikit-image's random_walker (neighbours, seeds)", a, replace(b, bytes=0.0))]


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(__doc__ or "", arguments)
    height, width = (12, 16) if options.quick else (46, 62)
    coarse = torch.randn(1, CHANNELS, 6, 8)
    smooth = F.interpolate(coarse, size=(height, width), mode="bilinear")[0]  # neighbours are alike, as in an image
    embedding = (smooth + 0.1 * torch.randn(smooth.shape)).to(options.device)
    score = torch.rand(CLASSES, height, width, device=options.device)
    steps = 2**SQUARINGS
    error = relative_error(random_walk(embedding, score, POWER, steps), plain_walk(embedding, score))
    a, b = alternate(
        lambda: random_walk(embedding, score, POWER, steps),
        lambda: plain_walk(embedding, score),
        options.device,
        options.repeat,
    )
    n = height * width
    # Ours: the cosines, an exponential each, and products of the matrix with the scores, which read all of it.
    products = len(chebyshev_weights(steps, torch.finfo(torch.float32).eps)) - 1
    work = Work(flops=2.0 * n * n * (CHANNELS + products * CLASSES), exps=n * n, bytes=4.0 * n * n * (products + 4))
    print_table(
        f"random walk, {height} x {width}, {CLASSES} classes (differs {error:.0e})",
        [
            Row(f"{steps} steps in {products} products against {SQUARINGS} squarings", a, b, 0.25, None, work),
            *walker_row(embedding, score, options),
        ],
        find_peak(options.device, options.quick),
    )


if __name__ == "__main__":
    run(main)
