"""Learning rates, as functions of the step."""

from collections.abc import Sequence


def poly_lr(base_lr: float, step: int, max_step: int, warmup: int = 0, power: float = 0.9) -> float:
    """Return base_lr (1 - step / max_step)^power, and during the warm-up the smaller of that and a line.

    The line goes from 0.1 base_lr at step 0 to base_lr at step `warmup`.
    """
    rate = base_lr * (1 - step / max_step) ** power
    return min(rate, _warm(base_lr, step, warmup)) if step < warmup else rate


def step_lr(base_lr: float, step: int, decay_steps: Sequence[int], warmup: int = 0) -> float:
    """Return base_lr, ten times smaller from each of `decay_steps` on, with the warm-up of `poly_lr`."""
    rate = base_lr * 0.1 ** sum(step >= decay for decay in decay_steps)
    return min(rate, _warm(base_lr, step, warmup)) if step < warmup else rate


def _warm(base_lr: float, step: int, warmup: int) -> float:
    return base_lr * (0.1 + 0.9 * step / warmup)
