"""The pixel-to-segment loss, forward and backward, beside the formula written down with pixel x segment matrices."""

import argparse
import math
from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from _measure import Row, Work, alternate, find_peak, parse, print_table, relative_error
from torch import Tensor

from spml.cli.exits import run
from spml.grouping import Relation, pixel_to_segment_loss

Problem = tuple[Tensor, Tensor, Tensor, Relation]
IMAGES, CLASSES, REGIONS = 4, 21, 50


def plain_loss(pixel: Tensor, prototype: Tensor, own: Tensor, relation: Relation, k: float) -> Tensor:
    """As the release computes it: every matrix is pixels x segments, the own segment is subtracted from the sum."""
    similarity = torch.exp(k * pixel @ prototype.T)  # (N, P)
    positive = relation.positive[relation.group].to(similarity.dtype)
    negative = relation.negative[relation.group].to(similarity.dtype)
    own_mask = F.one_hot(own, len(prototype)).to(similarity.dtype)
    others = (similarity * positive * (1 - own_mask)).sum(dim=1)
    numerator = torch.where(others > 0, others, (similarity * own_mask).sum(dim=1))
    return -torch.log(numerator / (numerator + (similarity * negative).sum(dim=1))).mean()


def problem(pixels: int, prototypes: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Unit rows; segments sorted by image, each pixel near its own, which lies in the pixel's image."""
    image = torch.arange(pixels) * IMAGES // pixels
    each = prototypes // IMAGES
    own = image * each + torch.randint(each, (pixels,))
    prototype = F.normalize(torch.randn(prototypes, 64), dim=1)
    pixel = F.normalize(prototype[own] + 0.1 * torch.randn(pixels, 64), dim=1)
    return pixel.to(device), prototype.to(device), own.to(device), image.to(device)


def relations(own: Tensor, image: Tensor, prototypes: int) -> dict[str, Relation]:
    """The four cases of the target: groups are images, classes, regions in per-image scope, and segments."""
    device = own.device
    segment_image = (torch.arange(prototypes, device=device) * IMAGES // (prototypes // IMAGES * IMAGES)).clamp(
        max=IMAGES - 1
    )
    label = torch.randint(CLASSES, (prototypes,), device=device)
    region = segment_image * REGIONS + torch.randint(REGIONS, (prototypes,), device=device)
    tag = torch.rand(IMAGES, CLASSES, device=device) < 0.15
    tag[:, 1] |= ~tag.any(dim=1)
    by_image = (tag.float() @ tag.float().T > 0)[:, segment_image]
    by_class = torch.arange(CLASSES, device=device)[:, None] == label
    every_region = torch.arange(IMAGES * REGIONS, device=device)
    by_region = every_region[:, None] == region
    same_image = (every_region // REGIONS)[:, None] == segment_image
    by_segment = label[:, None] == label
    return {
        f"{IMAGES} image groups": Relation(image, by_image, ~by_image),
        f"{CLASSES} class groups": Relation(label[own], by_class, ~by_class),
        f"{IMAGES * REGIONS} regions, each in its image": Relation(region[own], by_region, same_image & ~by_region),
        "a set per segment": Relation(own, by_segment, ~by_segment),
    }


def gradients(loss: Tensor, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
    return (loss.detach(), *torch.autograd.grad(loss, inputs))


def compare(name: str, case: Problem, k: float, options, targets: tuple[float | None, float | None]) -> Row:
    """Both ways on one case, after a check that value and gradients are the same."""
    pixel, prototype, own, relation = case
    inputs = pixel.requires_grad_(), prototype.requires_grad_()

    def ours():
        return gradients(pixel_to_segment_loss(*inputs, own, relation, k), inputs)

    def plain():
        return gradients(plain_loss(*inputs, own, relation, k), inputs)

    error = max(relative_error(a, b) for a, b in zip(ours(), plain(), strict=True))
    if not error < 1e-3:
        raise RuntimeError(f"{name}: value or gradient differs from the plain way by {error:.1e}")
    a, b = alternate(ours, plain, options.device, options.repeat)
    met = float(
        (relation.positive | relation.negative).sum(dim=1)[relation.group].sum()
    )  # pixel-segment pairs in scope
    channels = pixel.shape[1]
    work = Work(flops=3 * 2 * met * channels, exps=met, bytes=4 * 2 * (pixel.numel() + prototype.numel()))
    if options.device.type == "cuda":  # the kernels form the similarities a second time for the prototypes' gradient
        work = replace(work, flops=5 * 2 * met * channels, exps=2 * met)
    return Row(f"{name} (differs {error:.0e})", a, b, *targets, work)


def by_image(case: Problem, k: float) -> Tensor:
    """The plain way of a per-image relation: image by image, with that image's segments alone."""
    pixel, prototype, own, relation = case
    total = pixel.new_zeros(())
    for scope in torch.unique(relation.positive | relation.negative, dim=0):
        segments = scope.nonzero().squeeze(1)
        rows = scope[own].nonzero().squeeze(1)
        part = Relation(relation.group[rows], relation.positive[:, segments], relation.negative[:, segments])
        index = torch.searchsorted(segments, own[rows])
        total = total + plain_loss(pixel[rows], prototype[segments], index, part, k) * len(rows) / len(pixel)
    return total


def compare_by_image(name: str, case: Problem, k: float, options) -> Row:
    pixel, prototype, own, relation = case
    inputs = pixel.requires_grad_(), prototype.requires_grad_()
    a, b = alternate(
        lambda: gradients(pixel_to_segment_loss(*inputs, own, relation, k), inputs),
        lambda: gradients(by_image((*inputs, own, relation), k), inputs),
        options.device,
        options.repeat,
    )
    return Row(name, a, b)


def main(arguments: Sequence[str] | None = None) -> None:
    def more(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--pixels", default=65536, type=int, help="fewer need less memory")

    options = parse(__doc__ or "", arguments, more)
    size = (2048, 400) if options.quick else (options.pixels, 11400 if options.device.type == "cuda" else 2853)
    pixel, prototype, own, image = problem(*size, options.device)
    targets = {0: (0.125, 0.05) if options.device.type == "cuda" else (0.2, 0.05)}
    rows = []
    for number, (name, relation) in enumerate(relations(own, image, len(prototype)).items()):
        case = (pixel, prototype, own, relation)
        rows.append(compare(name, case, 6.0, options, targets.get(number, (0.3, 0.05))))
        if "region" in name:
            rows.append(compare_by_image("  the same, plain way image by image", case, 6.0, options))
    shape = " x ".join(str(s) for s in (*size, 64))
    print_table(f"loss, forward + backward, {shape}", rows, find_peak(options.device, options.quick))
    seconds = math.fsum(row.plain.seconds for row in rows)
    print(f"the plain way took {seconds:.1f} s in all")


if __name__ == "__main__":
    run(main)
