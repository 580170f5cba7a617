"""Learning rates and seeds, as functions of the step."""

from collections.abc import Sequence
from typing import Any


def poly_lr(base_lr: float, step: int, max_step: int, warmup: int = 0, power: float = 0.9) -> float:
    """Return base_lr (1 - step / max_step)^power; during the warm-up, at most the value of a line.

    The line goes from 0.1 base_lr at step 0 to base_lr at step `warmup`.
    """
    rate = base_lr * (1 - step / max_step) ** power
    return min(rate, _warm(base_lr, step, warmup)) if step < warmup else rate


def step_lr(base_lr: float, step: int, decay_steps: Sequence[int], warmup: int = 0) -> float:
    """Return base_lr, ten times smaller from each of `decay_steps` on, with the warm-up of `poly_lr`."""
    rate = base_lr * 0.1 ** sum(step >= decay for decay in decay_steps)
    return min(rate, _warm(base_lr, step, warmup)) if step < warmup else rate


def learning_rate(train: Any, step: int) -> float:
    """Return the base learning rate of a step, by the section `train` of a config."""
    if train.lr_policy == "poly":
        return poly_lr(train.base_lr, step, train.max_iteration, train.warmup_iteration)
    return step_lr(train.base_lr, step, train.decay_iterations, train.warmup_iteration)


def step_seed(seed: int, step: int, rank: int) -> int:
    """Mix seed, step and process into one seed of 63 bits (the multipliers are large primes)."""
    return (seed * 1_000_003 + step * 7_368_787 + rank * 15_485_863) % (1 << 63)


def _warm(base_lr: float, step: int, warmup: int) -> float:
    return base_lr * (0.1 + 0.9 * step / warmup)
