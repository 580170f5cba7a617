"""Compares the dense-CRF loss by the lattice with one by a matrix of pixels x pixels; times tree energy over sizes."""

from collections.abc import Sequence

import torch
from _measure import Cost, Row, alternate, measure, parse, print_table
from torch import Tensor

from spml.cli.exits import run
from spml.losses.dense_crf import dense_crf
from spml.losses.tree_energy import tree_energy

CLASSES, CHANNELS, SIGMA_XY, SIGMA_RGB = 21, 64, 50.0, 15.0  # ranges of the recipe at half the crop's size
ALIKE = 0.95  # correlation of both gradients, below which the comparison would mean nothing


def photo(side: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """An image of soft coloured fields with noise (1, 3, s, s), and probabilities (1, 21, s, s) that follow them."""
    grid = torch.arange(side) / side
    field = torch.sin(9 * grid) + torch.cos(11 * grid[:, None])
    tone = torch.tensor([0.6, -0.8, 0.4])[:, None, None]
    rgb = (128 + 50 * field * tone + 6 * torch.randn(3, side, side)).clamp(0, 255)
    score = torch.randn(CLASSES, side, side) + torch.randn(CLASSES, 1, 1) * field
    return rgb[None].to(device), score.softmax(0)[None].to(device)


def plain_crf(probability: Tensor, rgb: Tensor) -> Tensor:
    """-sum_k S_k' W S_k of one image with its whole W."""
    side = torch.arange(rgb.shape[-1], device=rgb.device).float() / SIGMA_XY
    place = torch.stack([side.expand(len(side), -1), side[:, None].expand(-1, len(side))])
    feature = torch.cat([place, rgb[0] / SIGMA_RGB]).flatten(1).T  # (N, 5)
    weight = torch.exp(-torch.cdist(feature, feature).square() / 2)  # (N, N)
    flat = probability[0].flatten(1)
    return -(flat @ weight * flat).sum()


def gradients(loss: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
    return (loss.detach(), *torch.autograd.grad(loss, inputs))


def compare_crf(side: int, options) -> Row:
    """Both ways, forward and backward, after a look at how far the lattice is from the exact weights."""
    rgb, probability = photo(side, options.device)
    valid = torch.ones(1, side, side, dtype=torch.bool, device=options.device)
    probability.requires_grad_()

    def ours():
        return gradients(dense_crf(probability, rgb, valid, SIGMA_XY, SIGMA_RGB).sum(), probability)

    def plain():
        return gradients(plain_crf(probability, rgb), probability)

    (value, slope), (exact, exact_slope) = ours(), plain()
    likeness = float(torch.corrcoef(torch.stack([slope.flatten(), exact_slope.flatten()]))[0, 1])
    if not likeness > ALIKE:
        raise RuntimeError(f"{side} x {side}: gradients correlate by {likeness:.3f}, expected more than {ALIKE}")
    a, b = alternate(ours, plain, options.device, options.repeat)
    name = f"dense CRF {side} x {side} (value x {value / exact:.2f}, gradients correlate {likeness:.3f})"
    return Row(name, a, b)


def measure_tree(side: int, options) -> Row:
    """Tree energy of one image, forward and backward; it has no plain way of the same size."""
    rgb, probability = photo(side, options.device)
    embedding = torch.randn(1, CHANNELS, side // 4, side // 4, device=options.device)
    embedding = torch.nn.functional.interpolate(embedding, (side, side), mode="bilinear").requires_grad_()
    probability.requires_grad_()
    whole = torch.ones(1, side, side, dtype=torch.bool, device=options.device)

    def call():
        energy = tree_energy(probability, rgb, embedding, whole, whole).sum()
        return gradients(energy, probability, embedding)

    return Row(f"tree energy {side} x {side}", measure(call, options.device, options.repeat), Cost(0))


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(__doc__ or "", arguments)
    crf, tree = ((16, 24), (8, 16)) if options.quick else ((32, 64, 96), (32, 64, 128, 256))
    rows = [compare_crf(side, options) for side in crf]
    print_table(f"dense-CRF loss, {CLASSES} classes, forward + backward (plain: N x N)", rows)
    rows = [measure_tree(side, options) for side in tree]
    print_table(f"tree energy, {CLASSES} classes, embedding of {CHANNELS}, forward + backward", rows)
    for side, row in zip(tree, rows, strict=True):
        seconds, size = row.ours.seconds / side**2, row.ours.bytes / side**2
        print(f"{side**2:6d} pixels: {1e6 * seconds:.1f} us a pixel, {size:.0f} bytes a pixel")


if __name__ == "__main__":
    run(main)
