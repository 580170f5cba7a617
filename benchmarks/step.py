"""A whole stage-1 step beside a step of plain cross-entropy on the same network and batch, and where its time goes."""

import argparse
from collections.abc import Sequence
from typing import Any

import torch
from _measure import Cost, Row, alternate, measure, optional, parse, print_table
from _parts import grouped_terms, inputs_of, own_terms, print_profile, profile_step
from torch import Tensor

from spml.cli.exits import run
from spml.config import load_config
from spml.config.shipped import shipped_config
from spml.data.dataset import build_training_dataset, load_training_dataset
from spml.engine.loop import to_device, update
from spml.engine.optimizer import build_optimizer
from spml.engine.run import build_task
from spml.tasks.spml import SpmlTask


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


def load_batch(config: Any, device: torch.device) -> dict[str, Any]:
    """The first training batch of a config, by its own loader."""
    config.num_threads = 0
    dataset = build_training_dataset(config, SpmlTask.needs)
    return to_device(next(iter(load_training_dataset(config, dataset))), device)


class Trainer:
    """One task with its optimizer; a call is one step."""

    def __init__(
        self,
        overrides: Sequence[str],
        batch: dict[str, Any],
        compiled: bool = False,
        layout: torch.memory_format = torch.channels_last,
        path: Any = None,
    ) -> None:
        device = batch["image"].device
        self.task = build_task(load_config(path, overrides)).to(device)
        self.task.to(memory_format=layout).train()  # type: ignore[call-overload]
        if compiled:
            self.task.parts["embedding_model"].compile()
        self.batch, self.rate = batch, 1e-4
        self.optimizer = build_optimizer(self.task, 0.9)

    def __call__(self) -> Any:
        return update(self.task, self.task.weights, self.optimizer, self.batch, self.rate, 0)

    def own_parts(self) -> Any:
        """A call is what SPML adds to a step: segments, relations, losses, and their gradients up to the embedding."""
        task, batch = self.task, self.batch
        assert isinstance(task, SpmlTask)
        with torch.no_grad():
            embedding = task.embed(batch["image"])
        leaf = embedding.detach().requires_grad_()
        logit = task.classify(leaf).float().detach() if "logit" in task.reads else None

        def own() -> None:
            inputs = inputs_of(task, batch, leaf)
            inputs.__dict__["logit"] = logit
            own_terms(task, inputs).backward()

        return own


def smp_step(config: Any, batch: dict[str, Any]) -> Any:
    """A call is a step of partial cross-entropy of segmentation_models_pytorch: DeepLabV3+ on the same backbone.

    None, and a line that says why, where the package or the backbone is missing there.
    """
    backbone = config.network.backbone_types
    name = {"panoptic_deeplab_101": "resnet101", "panoptic_deeplab_50": "resnet50"}.get(backbone)
    name = "tu-" + backbone.removeprefix("timm:") if backbone.startswith("timm:") else name
    if name is None:
        print(f"segmentation_models_pytorch: has no {backbone}, so no row for it")
        return None
    smp = optional("segmentation_models_pytorch")
    if smp is None:
        return None
    image, label, classes = batch["image"], batch["semantic_label"], config.dataset.num_classes
    target = label.masked_fill(label >= classes, 255)
    model = smp.DeepLabV3Plus(name, encoder_weights=None, classes=classes).to(image.device).train()
    model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9, weight_decay=5e-4)

    def step() -> None:
        with torch.autocast(image.device.type, torch.bfloat16, enabled=config.train.amp == "bf16"):
            logit = model(image)
        loss = torch.nn.functional.cross_entropy(logit.float(), target, ignore_index=255)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    return step


def settings(options: argparse.Namespace) -> tuple[Any, list[str], dict[str, Any]]:
    """The config's file, its overrides and a batch: of the config's own data, or made."""
    gpu = options.device.type == "cuda"
    if options.config:
        path = shipped_config(options.config)
        config = load_config(path, options.overrides)
        return path, list(options.overrides), load_batch(config, options.device)
    large = gpu or options.released
    count, crop = (2, 64) if options.quick else (4, 512) if large else (4, 256)
    overrides = [
        f"network.backbone_types={'panoptic_deeplab_101' if large else 'panoptic_deeplab_tiny'}",
        f"train.amp={'bf16' if gpu else 'off'}",
        f"train.crop_size=[{crop},{crop}]",
        "train.freeze_stem=false",
        *options.overrides,
    ]
    train = load_config(None, overrides).train
    return None, overrides, make_batch(train.get("batch_size") or count, train.crop_size[0], options.device)


def main(arguments: Sequence[str] | None = None) -> None:
    def more(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--released", action="store_true", help="ResNet-101 and crop 512 on the CPU, too: 20 GB")
        parser.add_argument("--config", default="", help="a shipped config: its network and a batch of its own data")
        parser.add_argument("--profile", action="store_true", help="also each part of a step, with its share")
        parser.add_argument("--layout", action="store_true", help="also the step with maps channel by channel")
        parser.add_argument("--compile", action="store_true", help="also the step with a compiled network")
        parser.add_argument("overrides", nargs="*", help="keys of the config, such as train.crop_size=[256,256]")

    options = parse(__doc__ or "", arguments, more)
    path, overrides, batch = settings(options)
    spml = Trainer(overrides, batch, path=path)
    assert isinstance(spml.task, SpmlTask)
    without = [f"losses.{name}=none" for name in grouped_terms(spml.task)]
    plain = Trainer([*overrides, *without, "train.classifier_gradient=true"], batch, path=path)
    a, b = alternate(spml, plain, options.device, options.repeat)
    own, whole = alternate(spml.own_parts(), spml, options.device, options.repeat)
    name = spml.task.config.network.backbone_types
    target = 0.10 if name == "panoptic_deeplab_101" and options.device.type == "cpu" else 0.15
    rows = [Row("stage 1 against cross-entropy", a, b), Row("SPML's own parts of that step", own, whole, target)]
    theirs = smp_step(spml.task.config, batch)
    if theirs is not None:
        label = "stage 1 against smp's DeepLabV3+, cross-entropy"
        rows.append(Row(label, *alternate(spml, theirs, options.device, options.repeat)))
    if options.layout:
        other = Trainer(overrides, batch, layout=torch.contiguous_format, path=path)
        rows.append(
            Row("stage 1, channels last, against first", *alternate(spml, other, options.device, options.repeat))
        )
    if options.compile:
        rows.append(Row("stage 1, backbone by torch.compile, against not", _compiled(overrides, batch, options), a))
    count, _, height, width = batch["image"].shape
    segments = len(spml.task.segment(batch, spml.task.embed(batch["image"]).float()).prototype)
    print_table(f"step, {name}, batch {count}, crop {height} x {width}, {segments} segments", rows)
    print(f"{count / a.seconds:.2f} images/s; {count / b.seconds:.2f} by cross-entropy alone")
    if options.profile:
        print_profile(profile_step(spml, options.repeat))


def _compiled(overrides: Sequence[str], batch: dict[str, Tensor], options: Any) -> Cost:
    trainer = Trainer(overrides, batch, compiled=True)
    trainer()  # compiles
    return measure(trainer, options.device, options.repeat)


if __name__ == "__main__":
    run(main)
