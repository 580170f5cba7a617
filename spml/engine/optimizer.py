"""The release's optimizer: SGD whose momentum accumulates steps."""

from collections.abc import Iterable
from typing import Any

import torch

from spml.tasks import Task


class StepMomentumSGD(torch.optim.Optimizer):
    """SGD with v = momentum v + lr (g + weight_decay w), w -= v.

    torch.optim.SGD accumulates gradients and then multiplies by the rate. The two differ while the rate changes, as it
    always does here. The release's snapshots and figures come from this form.
    """

    def __init__(self, groups: Iterable[Any], momentum: float = 0.9) -> None:
        super().__init__(groups, {"lr": 0.0, "momentum": momentum, "weight_decay": 0.0, "multiplier": 1})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Take one step with the `lr` that each group holds."""
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            if not parameters:
                continue
            for p in parameters:
                if not self.state[p]:
                    self.state[p]["momentum_buffer"] = torch.zeros_like(p)
            buffers = [self.state[p]["momentum_buffer"] for p in parameters]
            gradients: Any = [p.grad for p in parameters]
            if group["weight_decay"]:
                gradients = torch._foreach_add(gradients, parameters, alpha=group["weight_decay"])
            torch._foreach_mul_(buffers, group["momentum"])
            torch._foreach_add_(buffers, gradients, alpha=group["lr"])
            torch._foreach_sub_(parameters, buffers)

    def set_rate(self, rate: float) -> None:
        """Give every group its multiple of the rate."""
        for group in self.param_groups:
            group["lr"] = rate * group["multiplier"]


def build_optimizer(task: Task, momentum: float) -> StepMomentumSGD:
    """The optimizer of the task's parameter groups. Parameters without a group get `requires_grad=False`.

    Batch-norm statistics of networks in training mode still move, as in the release.
    """
    groups = task.parameter_groups()
    taken = {id(parameter) for group in groups for parameter in group["params"]}
    for parameter in task.parameters():
        parameter.requires_grad_(id(parameter) in taken)
    return StepMomentumSGD(groups, momentum)
