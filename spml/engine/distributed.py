"""Several processes: joining them, exchanging segments, and batch norm over all. Images never leave their process."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from spml.device import own_device
from spml.errors import UserError
from spml.grouping.memory import ALONE, Exchange, Gathered, Prototypes
from spml.processes import rank, world_size

# Seconds to wait until gloo's threads release the last tensors. DistributedDataParallel keeps these threads alive
# beyond the group. On a loaded CPU about one run in ten aborted without the wait, and none of about 35 with it. We
# believe, but have not proven, that without it a thread outlives the interpreter.
GRACE = 0.2


def start(device: torch.device) -> torch.device:
    """Join the processes of torchrun, unless there are none or they have joined, and return this process's device.

    Raises:
        UserError: more processes on this machine than CUDA devices.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        return device
    device = own_device(device)
    if not dist.is_initialized():
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return device


def stop() -> None:
    """Leave the processes that `start` joined."""
    if dist.is_initialized():
        dist.destroy_process_group()
        time.sleep(GRACE)


def exchange() -> Exchange:
    """Return the exchange of segments that fits this run."""
    return _AllProcesses() if dist.is_initialized() else ALONE


def any_process(flag: bool, device: torch.device) -> bool:
    """Return whether `flag` is true on any process, the same answer on all."""
    if world_size() == 1:
        return flag
    return bool(exchange().total(torch.tensor(int(flag), device=device)))


@contextmanager
def all_or_none(device: torch.device) -> Iterator[None]:
    """A UserError of one process inside this context ends all: that one prints its line, the others print nothing."""
    try:
        yield
    except UserError:
        any_process(True, device)
        raise
    if any_process(False, device):
        raise SystemExit(1)


class _AllProcesses:
    """Every process gathers the prototypes and labels of all; the traffic grows with segments, not with pixels."""

    @property
    def processes(self) -> int:
        return world_size()

    def gather(self, rows: Prototypes, num_images: int) -> Gathered:
        """As `Exchange.gather`: sizes first, then each column, padded to the longest process."""
        counts = torch.zeros(world_size(), 2, dtype=torch.long, device=rows.prototype.device)
        counts[rank()] = counts.new_tensor([len(rows.prototype), num_images])
        dist.all_reduce(counts)
        sizes, images = counts.T.tolist()
        columns = rows.tensors()
        columns["batch_index"] = columns["batch_index"] + sum(images[: rank()])
        everybody = {name: gather_rows(column, sizes) for name, column in columns.items()}
        return Gathered(Prototypes(**everybody), sum(sizes[: rank()]), sum(images))

    def stack(self, rows: Tensor) -> tuple[Tensor, int]:
        return _gather(rows.detach(), [len(rows)] * world_size()), rank() * len(rows)

    def total(self, number: Tensor) -> Tensor:
        number = number.detach().clone()
        dist.all_reduce(number)
        return number


def gather_rows(rows: Tensor, sizes: list[int]) -> Tensor:
    """Stack the rows of all processes in the order of ranks; float rows keep their gradient.

    Args:
        rows: (sizes[rank], ...) of this process.
        sizes: rows of each process, the same list everywhere.
    """
    if rows.dtype == torch.bool:
        return gather_rows(rows.to(torch.uint8), sizes).bool()
    if rows.is_floating_point():
        return _GatherRows.apply(rows, sizes)
    return _gather(rows, sizes)


def _gather(rows: Tensor, sizes: list[int]) -> Tensor:
    longest = max(sizes)  # the collective wants equal shapes
    padded = torch.cat([rows, rows.new_zeros(longest - len(rows), *rows.shape[1:])])
    parts = [torch.empty_like(padded) for _ in sizes]
    dist.all_gather(parts, padded)
    return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])


class _GatherRows(torch.autograd.Function):
    """All-gather. Its gradient is the sum over processes, restricted to this process's rows."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, sizes: list[int]) -> Tensor:
        ctx.sizes = sizes
        return _gather(rows, sizes)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        grad = grad.contiguous()
        dist.all_reduce(grad)
        before = sum(ctx.sizes[: rank()])
        return grad[before : before + ctx.sizes[rank()]], None


class _SumOverProcesses(torch.autograd.Function):
    """All-reduce by sum. Its gradient is an all-reduce by sum, too."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        value = value.clone()
        dist.all_reduce(value)
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        grad = grad.contiguous()
        dist.all_reduce(grad)
        return grad


class SyncBatchNorm(nn.BatchNorm2d):
    """Batch norm with training statistics over all processes. It also runs on the CPU, unlike torch's own."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (B, C, H, W) float; statistics in float32, the result in the type of `x`."""
        x = self.synchronised(x) if self.training else super().forward(x)
        for layer in self.children():  # what follows in a batch norm of timm: dropout, activation
            x = layer(x)
        return x

    def synchronised(self, x: Tensor) -> Tensor:
        """Normalise by the statistics of all processes' batches, and update the running statistics."""
        count = torch.full((1,), x.numel() / x.shape[1], dtype=torch.float32, device=x.device)
        sums = _SumOverProcesses.apply(torch.cat([x.float().sum((0, 2, 3)), count]))
        mean, count = sums[:-1] / sums[-1], sums[-1].detach()
        centred = x.float() - mean[:, None, None]
        variance = _SumOverProcesses.apply(centred.square().sum((0, 2, 3))) / count
        with torch.no_grad():
            momentum = 0.1 if self.momentum is None else self.momentum
            unbiased = variance * count / (count - 1).clamp(min=1)
            self.running_mean.lerp_(mean, momentum)  # type: ignore[union-attr]
            self.running_var.lerp_(unbiased, momentum)  # type: ignore[union-attr]
            self.num_batches_tracked.add_(1)  # type: ignore[union-attr]
        scale = self.weight * (variance + self.eps).rsqrt()
        return (centred * scale[:, None, None] + self.bias[:, None, None]).to(x.dtype)


def synchronise_batch_norm(model: nn.Module, device: torch.device) -> nn.Module:
    """Return `model` with every batch norm synchronised: torch's on CUDA, ours elsewhere. State-dict keys stay."""
    if device.type == "cuda":
        # Batch norms of timm hold the activation, too, which torch's conversion drops.
        converter: Any = sys.modules.get("timm.layers", nn.SyncBatchNorm)
        return converter.convert_sync_batchnorm(model)
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.BatchNorm2d) and not isinstance(child, SyncBatchNorm):
                synced = SyncBatchNorm(child.num_features, child.eps, child.momentum, child.affine)
                synced.weight, synced.bias = child.weight, child.bias  # the same objects: an optimizer may hold them
                synced.running_mean, synced.running_var = child.running_mean, child.running_var
                synced.num_batches_tracked = child.num_batches_tracked
                synced.training = child.training  # a frozen network's statistics stay
                for follows, layer in child.named_children():
                    synced.add_module(follows, layer)
                setattr(module, name, synced)
    return model
