"""A whole stage-1 step beside a step of plain cross-entropy on the same network and batch."""

import argparse
from collections.abc import Sequence
from typing import Any

import torch
from _measure import Cost, Row, alternate, measure, parse, print_table
from torch import Tensor

from spml.cli.exits import run
from spml.config import load_config
from spml.engine.loop import update
from spml.engine.optimizer import build_optimizer
from spml.engine.run import build_task
from spml.grouping import grouping_losses
from spml.tasks.spml import SpmlTask

RELATIONS = ("semantic_annotation", "semantic_cooccurrence", "image_similarity")
CROSS_ENTROPY = [f"losses.{name}=none" for name in RELATIONS]


def make_batch(batch: int, crop: int, device: torch.device) -> dict[str, Tensor]:
    """Images of noise over a coarse pattern, scribble-like labels on a third of the pixels, blocks as regions."""
    coarse = torch.randint(0, 21, (batch, 1, 6, 6))
    label = torch.nn.functional.interpolate(coarse.float(), (crop, crop))[:, 0].long()
    tag = torch.zeros(batch, 21, dtype=torch.bool).scatter_(1, coarse.flatten(1), True)
    cell = torch.arange(crop) * 12 // crop
    region = (cell[:, None] * 12 + cell).expand(batch, crop, crop).contiguous()
    image = torch.randn(batch, 3, crop, crop) + label[:, None] / 10
    label[torch.rand(label.shape) > 0.3] = 254
    inside = torch.ones(batch, crop, crop, dtype=torch.bool)
    made = {"image": image, "semantic_label": label, "instance_label": region, "semantic_tag": tag, "inside": inside}
    return {name: value.to(device) for name, value in made.items()}


class Trainer:
    """One task with its optimizer; a call is one step."""

    def __init__(
        self,
        overrides: Sequence[str],
        batch: dict[str, Tensor],
        compiled: bool = False,
        layout: torch.memory_format = torch.channels_last,
    ) -> None:
        config = load_config(None, overrides)
        device = batch["image"].device
        self.task = build_task(config).to(device).to(memory_format=layout).train()  # type: ignore[call-overload]
        if compiled:
            self.task.parts["embedding_model"].compile()
        self.batch, self.rate = batch, 1e-4
        self.optimizer = build_optimizer(self.task, 0.9)

    def __call__(self) -> Any:
        return update(self.task, self.task.weights, self.optimizer, self.batch, self.rate, 0)

    def own_parts(self) -> Cost:
        """Segments, relations, losses and their gradients up to the embedding, without the network."""
        task, batch = self.task, self.batch
        assert isinstance(task, SpmlTask)
        with torch.no_grad(), torch.autocast(batch["image"].device.type, torch.bfloat16, enabled=False):
            embedding = task.embedding_model(batch["image"])
        leaf = embedding.float().requires_grad_()

        def grouping() -> None:
            losses = grouping_losses(
                task.segment(batch, leaf),
                batch["semantic_tag"],
                num_classes=21,
                concentration={name: task.config.losses[name].concentration for name in RELATIONS},
                memory=task.bank,
                relations=RELATIONS,
            )
            torch.stack([task.weights[name] * term for name, term in losses.items()]).sum().backward()

        return measure(grouping, leaf.device, 3)


def main(arguments: Sequence[str] | None = None) -> None:
    def more(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--released", action="store_true", help="ResNet-101 and crop 512 on the CPU, too: 20 GB")
        parser.add_argument("--layout", action="store_true", help="also the step with maps channel by channel")
        parser.add_argument("--compile", action="store_true", help="also the step with a compiled network")

    options = parse(__doc__ or "", arguments, more)
    gpu = options.device.type == "cuda"
    large = gpu or options.released
    backbone = "panoptic_deeplab_101" if large else "panoptic_deeplab_tiny"
    count, crop = (2, 64) if options.quick else (4, 512) if large else (4, 256)
    overrides = [
        f"network.backbone_types={backbone}",
        f"train.amp={'bf16' if gpu else 'off'}",
        f"train.crop_size=[{crop},{crop}]",
        "train.freeze_stem=false",
    ]
    batch = make_batch(count, crop, options.device)
    spml = Trainer(overrides, batch)
    plain = Trainer([*overrides, *CROSS_ENTROPY, "train.classifier_gradient=true"], batch)
    a, b = alternate(spml, plain, options.device, options.repeat)
    own = spml.own_parts()
    rows = [Row("stage 1 against cross-entropy", a, b), Row("SPML's own parts of that step", own, a, 0.15)]
    if options.layout:
        other = Trainer(overrides, batch, layout=torch.contiguous_format)
        rows.append(
            Row("stage 1, channels last, against first", *alternate(spml, other, options.device, options.repeat))
        )
    if options.compile:
        rows.append(Row("stage 1, backbone by torch.compile, against not", _compiled(overrides, batch, options), a))
    assert isinstance(spml.task, SpmlTask)
    segments = spml.task.bank.steps[-1][0].prototype
    print_table(f"step, {backbone}, batch {count}, crop {crop}, {len(segments)} segments", rows)
    print(f"{count / a.seconds:.2f} images/s; {count / b.seconds:.2f} by cross-entropy alone")


def _compiled(overrides: Sequence[str], batch: dict[str, Tensor], options: Any) -> Cost:
    trainer = Trainer(overrides, batch, compiled=True)
    trainer()  # compiles
    return measure(trainer, options.device, options.repeat)


if __name__ == "__main__":
    run(main)
