"""The training loop: batch -> named raw losses -> weighted sum -> backward -> step."""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from spml.engine import distributed
from spml.engine.optimizer import StepMomentumSGD
from spml.engine.schedule import learning_rate, step_seed
from spml.errors import UserError
from spml.tasks import Task

Record = dict[str, float]  # of a step: "step", "total", each raw term, and what callbacks add
Callback = Callable[[int, Record, Task], Mapping[str, float] | None]


def run_steps(
    task: Task,
    optimizer: StepMomentumSGD,
    batches: Iterable[Mapping[str, Any]],
    first: int,
    *,
    callbacks: Iterable[Callback],
    save: Callable[[int], object],
    stopped: Callable[[], bool],
) -> list[Record]:
    """Train from step `first` on as long as there are batches, or until `stopped()` is true on any process.

    Everything random is a function of `train.seed`, the step and the process.

    Args:
        callbacks: called after each step with its number, its record and the task; numbers that one returns join the
            record, for the callbacks behind it.
        save: called with the number of a finished step: each `train.snapshot_step`, and the last.

    Returns:
        The record of each step.

    Raises:
        UserError: a loss that is not finite, with its step and terms.
    """
    train, records = task.config.train, []
    device = next(task.parameters()).device
    run = replicate(task, device)
    for step, batch in enumerate(batches, start=first):
        torch.manual_seed(step_seed(train.seed, step, distributed.rank()))  # dropout
        losses = update(run, task.weights, optimizer, to_device(batch, device), learning_rate(train, step), step)
        record: Record = {"step": step, **losses}
        for callback in callbacks:
            record.update(callback(step, record, task) or {})
        records.append(record)
        stop = distributed.any_process(stopped(), device)
        if stop or step + 1 == train.max_iteration or (step + 1) % train.snapshot_step == 0:
            save(step)
        if stop:
            break
    return records


def update(
    run: nn.Module,
    weights: Mapping[str, float],
    optimizer: StepMomentumSGD,
    batch: Mapping[str, Any],
    rate: float,
    step: int,
) -> dict[str, float]:
    """Take one training step and return its weighted "total" and its raw terms, summed over processes."""
    terms = run(batch)
    total = torch.stack([weights[name] * term for name, term in terms.items()]).sum()
    values = distributed.exchange().total(torch.stack([total, *terms.values()]).detach())
    losses = dict(zip(["total", *terms], values.tolist(), strict=True))
    if not math.isfinite(losses["total"]):
        listed = ", ".join(f"{name} {value:g}" for name, value in losses.items())
        raise UserError(f"the loss is not finite at step {step}: {listed}; a smaller train.base_lr may help")
    optimizer.zero_grad(set_to_none=True)
    (total * distributed.world_size()).backward()  # DistributedDataParallel averages the gradients; we want their sum
    optimizer.set_rate(rate)
    optimizer.step()
    return losses


def replicate(task: Task, device: torch.device) -> nn.Module:
    """The task in training mode, its gradients and batch statistics shared where there are several processes."""
    task.to(memory_format=torch.channels_last)  # faster on the CPU as on CUDA
    task.train()
    if distributed.world_size() == 1:
        return task
    if task.config.network.use_syncbn:
        distributed.synchronise_batch_norm(task, device)
    return DistributedDataParallel(task, device_ids=[device] if device.type == "cuda" else None)


def to_device(batch: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
    """The batch with its tensors on `device`."""
    return {k: v.to(device, non_blocking=True) if isinstance(v, Tensor) else v for k, v in batch.items()}
