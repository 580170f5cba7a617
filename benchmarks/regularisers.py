"""Compares the dense-CRF loss by the lattice with one by a matrix of pixels x pixels; times tree energy over sizes.

With --steps: time and memory of a whole training step of every loss that needs no segments, of SPML, and of networks of
class activation maps on the same backbone, beside a step of partial cross-entropy on the same batch.
"""

import argparse
from collections.abc import Sequence

import torch
from _measure import MB, Cost, Row, alternate, measure, parse, print_table
from step import Trainer, make_batch
from torch import Tensor

from spml.cli.exits import run
from spml.config.settings import defaults_of
from spml.losses import TABLE
from spml.losses.dense_crf import dense_crf
from spml.losses.tree_energy import tree_energy
from spml.models.cam import CAM_TASKS

PARTIAL = ["train.task=segmentation", "losses=none", "losses.cross_entropy.weight=1"]
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


def step_rows(options, backbone: str, count: int, crop: int) -> list[Row]:
    """A row for each method: its step, and in turns with it one of partial cross-entropy alone."""
    batch = make_batch(count, crop, options.device)
    images = torch.cat([photo(crop, options.device)[0] for _ in range(count)])  # a lattice of noise would be too large
    batch["image"] = (images / 255 - 0.45) / 0.225
    common = [
        f"network.backbone_types={backbone}",
        f"train.crop_size=[{crop},{crop}]",
        f"train.amp={'bf16' if options.device.type == 'cuda' else 'off'}",
        "train.freeze_stem=false",
        "train.classifier_gradient=true",
    ]
    methods = {"SPML, the released relations": common}
    for name, loss in TABLE.items():
        if name != "cross_entropy" and "segments" not in loss.inputs:
            weight = defaults_of(loss.settings)["weight"]
            methods[name] = [*common, *PARTIAL, f"losses.{name}.weight={weight}"]
    methods |= {f"maps by {task}": [*common, f"train.task={task}", "losses=none"] for task in CAM_TASKS}
    plain, rows = Trainer([*common, *PARTIAL], batch), []
    plain()  # the optimizer's memory comes with the first step
    for name, overrides in methods.items():
        ours = Trainer(overrides, batch)
        ours()
        rows.append(Row(name, *alternate(ours, plain, options.device, options.repeat)))
    return rows


def print_steps(options) -> None:
    """The table of steps, and what each method adds to partial cross-entropy."""
    gpu = options.device.type == "cuda"
    backbone = options.backbone or ("panoptic_deeplab_101" if gpu else "panoptic_deeplab_tiny")
    count, crop = (2, 64) if options.quick else (4, 512) if gpu else (4, 256)
    rows = step_rows(options, backbone, count, crop)
    print_table(f"a step, {backbone}, batch {count}, crop {crop} (plain: partial cross-entropy alone)", rows)
    for row in rows:
        seconds, size = row.ours.seconds - row.plain.seconds, (row.ours.bytes - row.plain.bytes) / MB
        print(f"{row.name}: {1e3 * seconds:+.0f} ms, {size:+.1f} MB")


def main(arguments: Sequence[str] | None = None) -> None:
    def more(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--steps", action="store_true", help="whole training steps instead")
        parser.add_argument("--backbone", default="", help="with --steps; empty: the tiny one, on CUDA ResNet-101")

    options = parse(__doc__ or "", arguments, more)
    if options.steps:
        print_steps(options)
        return
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
