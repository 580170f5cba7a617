"""The release's optimizer: SGD whose momentum accumulates steps, and its four learning-rate groups."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from spml.models.embedding import split_parameters

MULTIPLIER = {"backbone_weight": 1, "backbone_bias": 2, "head_weight": 10, "head_bias": 20}


class StepMomentumSGD(torch.optim.Optimizer):
    """SGD with v = momentum v + lr (g + weight_decay w), w -= v.

    torch.optim.SGD accumulates gradients and multiplies by the rate afterwards; the two differ while the rate moves,
    which is always here. The release's snapshots and figures come from this form.
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


def build_optimizer(
    models: Iterable[nn.Module], weight_decay: float, momentum: float, freeze_stem: bool
) -> StepMomentumSGD:
    """Group the parameters of `models` as the release does: x1 backbone, x10 heads, biases twice that without decay.

    With `freeze_stem` the stem and res2 are in no group and stop asking for gradients; their batch-norm statistics
    still move, as in the release.
    """
    groups: dict[str, list[nn.Parameter]] = {name: [] for name in MULTIPLIER}
    for model in models:
        for name, parameters in split_parameters(model, freeze_stem).items():
            groups[name] += parameters
        taken = {id(p) for parameters in groups.values() for p in parameters}
        for parameter in model.parameters():
            parameter.requires_grad_(id(parameter) in taken)
    decay = {name: 0.0 if name.endswith("bias") else weight_decay for name in groups}
    return StepMomentumSGD(
        [
            {"params": groups[name], "multiplier": MULTIPLIER[name], "weight_decay": decay[name]}
            for name in groups
            if groups[name]
        ],
        momentum,
    )
