"""The training run that both stages share: batches, updates, progress, snapshots, resuming."""

import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from spml.allocator import keep_memory
from spml.config import save_config
from spml.data.dataset import build_training_loader
from spml.engine import distributed
from spml.engine.callbacks import Monitor
from spml.engine.optimizer import StepMomentumSGD, build_optimizer
from spml.engine.schedule import poly_lr, step_lr
from spml.engine.snapshot import load_snapshot, save_snapshot
from spml.errors import UserError
from spml.models import CamModel, build_cam_model, build_classifier, build_embedding_model, load_checkpoint
from spml.models.checkpoint import find_snapshot, list_snapshots
from spml.tasks.cam import CamTask
from spml.tasks.classifier import ClassifierTask
from spml.tasks.spml import EmbeddingTask

Task = EmbeddingTask | ClassifierTask | CamTask
INTERRUPTED = 130  # exit status after Ctrl-C, as shells have it


def train(
    config: Any, snapshot_dir: str | Path, device: torch.device, stage: str = "embedding", resume: bool = False
) -> int:
    """Train stage 1 ("embedding"), stage 2 ("classifier") or a network of CAMs ("cam") and leave snapshots.

    Everything random is a function of `train.seed`, the step and the process, so a resumed run repeats the
    uninterrupted one, bit for bit on one CPU process. Ctrl-C and SIGTERM finish the step, save, and return.

    Args:
        config: of `spml.config.load_config`.
        snapshot_dir: where snapshots, the resolved config and TensorBoard records go.
        device: where to compute; under torchrun each process takes its own GPU.
        stage: which task.
        resume: go on from the newest snapshot, or start where there is none.

    Returns:
        The exit status: 0, or 130 after an interruption.

    Raises:
        UserError: data, config or snapshots that cannot be used; a loss that is not finite.
    """
    folder = Path(snapshot_dir)
    resume = resume or config.train.resume
    if list_snapshots(folder) and not resume:
        raise UserError(
            f"--snapshot_dir {folder}: holds snapshots already; add --resume to go on, or name another folder"
        )
    folder.mkdir(parents=True, exist_ok=True)  # where that is impossible, before any work
    device = distributed.start(device)
    try:
        return _train(config, folder, device, stage, resume)
    finally:
        distributed.stop()


def _train(config: Any, folder: Path, device: torch.device, stage: str, resume: bool) -> int:
    rank, world = distributed.rank(), distributed.world_size()
    _check_batch(config, stage, world)
    if device.type == "cpu":
        keep_memory()
    torch.manual_seed(config.train.seed)
    task = build_task(config, stage).to(device)
    recipe = config.train
    optimizer = build_optimizer(task.trained, recipe.weight_decay, recipe.momentum, recipe.freeze_stem)
    done = _restore(folder, task, optimizer, device) if resume else None
    first, last = config.train.begin_iteration if done is None else done + 1, config.train.max_iteration
    if first >= last:
        _say(f"nothing to do: {first} of {last} steps are done")
        return 0
    with distributed.together(device):  # the first process checks the files for all
        loader = build_training_loader(config, rank, world, first, stage)
    if rank == 0:
        save_config(config, folder / "config.yaml")
    run = _replicate(task, config, device)
    with closing(Monitor(config, folder, first, stage)) as monitor, _interruption() as interrupted:
        for step, batch in enumerate(loader, start=first):
            torch.manual_seed(step_seed(config.train.seed, step, rank))  # dropout
            losses = update(
                run, task.weights, optimizer, _to_device(batch, device), learning_rate(config.train, step), step
            )
            monitor.record(step, losses, optimizer, batch, task)
            stop = distributed.any_process(interrupted[0], device)
            if rank == 0 and (stop or step + 1 == last or (step + 1) % config.train.snapshot_step == 0):
                state = {"optimizer": optimizer.state_dict(), "extra": task.extra_state(), "config": plain(config)}
                state["random"] = {
                    "seed": config.train.seed,
                    "next_sample": (step + 1) * config.train.batch_size * world,
                }
                path = save_snapshot(folder, step, task.embedding_model, task.classifier, state)
            if stop:
                _say(f"interrupted after step {step}; saved; go on with --resume")
                return INTERRUPTED
    if rank == 0:
        _say(f"trained {last - first} steps; snapshot {path}")
    return 0


def _restore(folder: Path, task: Task, optimizer: StepMomentumSGD, device: torch.device) -> int | None:
    """Take up the newest snapshot of a folder and return its step; None where there is none.

    Raises:
        UserError: files that cannot be read, or that another config or stage wrote.
    """
    found = load_snapshot(folder, task.embedding_model, task.classifier, device)
    if found is None:
        return None
    path, state = found
    try:
        optimizer.load_state_dict(state["optimizer"])
        task.load_extra_state(state["extra"], device)
        step = int(state["step"])
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"--resume: {path} is not of this config and stage: expected the same trained layers and relations, got "
            f"{type(error).__name__}: {error}; it can be used by network.pretrained in another folder"
        ) from error
    _say(f"resuming after step {step}")
    return step


def update(
    run: nn.Module,
    weights: Mapping[str, float],
    optimizer: StepMomentumSGD,
    batch: Mapping[str, Any],
    rate: float,
    step: int,
) -> dict[str, Tensor]:
    """Take one training step and return its raw terms and their weighted "total", summed over processes, detached."""
    terms = run(batch)
    total = torch.stack([weights[name] * term for name, term in terms.items()]).sum()
    values = distributed.exchange().total(torch.stack([total, *terms.values()]).detach())
    losses = dict(zip(["total", *terms], values, strict=True))
    if not torch.isfinite(values[0]):
        shown = ", ".join(f"{name} {float(value):g}" for name, value in losses.items())
        raise UserError(f"the loss is not finite at step {step}: {shown}; a smaller train.base_lr may help")
    optimizer.zero_grad(set_to_none=True)
    (total * distributed.world_size()).backward()  # DistributedDataParallel averages the gradients; we want their sum
    optimizer.set_rate(rate)
    optimizer.step()
    return losses


def build_task(config: Any, stage: str) -> Task:
    """Build the models of a stage, with the weights of `network.pretrained` if it is set."""
    pretrained = config.network.pretrained
    # Released backbones hardly move their batch-norm statistics; from random weights these have to be learned.
    momentum = None if pretrained else 0.1
    model = build_cam_model(config, momentum) if stage == "cam" else build_embedding_model(config, momentum)
    if pretrained:
        _say(load_checkpoint(find_snapshot(pretrained, "network.pretrained"), model))
    elif stage == "classifier":
        raise UserError("network.pretrained: stage 2 needs the snapshot of stage 1, got nothing")
    elif config.train.freeze_stem:
        _say(
            "warning: network.pretrained is empty and train.freeze_stem true: the first layers stay random", sys.stderr
        )
    if isinstance(model, CamModel):
        return CamTask(config, model)
    task = EmbeddingTask if stage == "embedding" else ClassifierTask
    return task(config, model, build_classifier(config, dropout=0.75 if stage == "embedding" else 0.65))


def _check_batch(config: Any, stage: str, world: int) -> None:
    """Refuse a batch of one value a channel, of which a batch norm in training cannot take the variance."""
    images = config.train.batch_size * (world if config.network.use_syncbn else 1)
    backbone = config.network.backbone_types
    crop = max(config.train.crop_size)
    if stage == "cam" and config.network.prediction_types == "seam":
        crop *= config.train.second_view_scale
    pooled = "pspnet" in backbone and stage == "embedding"
    if stage != "classifier" and images == 1 and (pooled or crop <= 8):  # one cell of pooling, or of the stride-8 map
        raise UserError(
            f"train.batch_size: expected at least 2 for the batch norms of {backbone} on a crop of "
            f"{config.train.crop_size}, got 1"
        )


def learning_rate(train: Any, step: int) -> float:
    """Return the base learning rate of a step."""
    if train.lr_policy == "poly":
        return poly_lr(train.base_lr, step, train.max_iteration, train.warmup_iteration)
    return step_lr(train.base_lr, step, train.decay_iterations, train.warmup_iteration)


def step_seed(seed: int, step: int, rank: int) -> int:
    """Mix seed, step and process into one seed of 63 bits (the multipliers are large primes)."""
    return (seed * 1_000_003 + step * 7_368_787 + rank * 15_485_863) % (1 << 63)


def plain(tree: Any) -> Any:
    """Return a config as plain dicts, lists and numbers, which weights_only loading accepts."""
    if isinstance(tree, Mapping):
        return {key: plain(value) for key, value in tree.items()}
    return [plain(value) for value in tree] if isinstance(tree, (list, tuple)) else tree


def _replicate(task: nn.Module, config: Any, device: torch.device) -> nn.Module:
    task.to(memory_format=torch.channels_last)  # the faster layout of convolutions on the CPU as on CUDA
    task.train()
    if distributed.world_size() == 1:
        return task
    if config.network.use_syncbn:
        task = distributed.synchronise_batch_norm(task, device)
    return DistributedDataParallel(task, device_ids=[device] if device.type == "cuda" else None)


def _to_device(batch: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
    return {k: v.to(device, non_blocking=True) if isinstance(v, Tensor) else v for k, v in batch.items()}


def _say(text: str, file: Any = None) -> None:
    if distributed.rank() == 0:
        tqdm.write(text, file=file)


@contextmanager
def _interruption() -> Iterator[list[bool]]:
    """Yield a one-element list that Ctrl-C or SIGTERM sets to True; a second Ctrl-C ends the process at once.

    A SIGTERM does not: torchrun, or a queue, sends one after a Ctrl-C to processes that are about to save.
    """
    flag = [False]

    def note(number: int, frame: Any) -> None:
        if flag[0] and number == signal.SIGINT:
            raise KeyboardInterrupt
        flag[0] = True

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield flag
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
