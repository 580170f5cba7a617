"""Propagates scores by a random walk over the embedding's affinity (pseudo labels of the paper)."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

LOWEST = -60.0  # log of the smallest affinity: 1e-26 beside the 1 of a pixel to itself, and no slow denormal numbers


@torch.no_grad()
def random_walk(embedding: Tensor, score: Tensor, power: int = 20, steps: int = 64) -> Tensor:
    """Walk `steps` steps over the pixels; the affinity of embeddings gives the probability of each step.

    A = mean over views of exp(5 (cos(z_i, z_j) - 1)), raised to `power` entry by entry; T = A with columns that sum to
    one; the result is score T^steps. The release squares T six times, at n^3 a squaring. Here the K rows of scores are
    multiplied by T about 4 sqrt(steps) times (29 for the released 64), at K n^2 each: see `chebyshev_weights`. In
    float32 both agree within about 2e-5 of the largest number. It needs one n x n matrix (two with several views).

    Args:
        embedding: (C, h, w) float, of any length, or (V, C, h, w): views of one image, such as the image and its mirror
            image, whose embedding is mirrored back.
        score: (K, h, w) float: a map of scores a class.
        power: sharpness of the affinity, at least 1.
        steps: at least 0; 0 returns the scores.

    Returns:
        (K, h, w), float64 if the scores are, else float32.

    Raises:
        ValueError: for shapes that do not fit.
    """
    views = embedding if embedding.ndim == 4 else embedding[None]
    if views.ndim != 4 or len(views) == 0 or score.ndim != 3 or views.shape[-2:] != score.shape[-2:]:
        raise ValueError(
            "expected embedding (C, h, w) or (V, C, h, w) and score (K, h, w) of one size, "
            f"got {tuple(embedding.shape)} and {tuple(score.shape)}"
        )
    dtype = torch.float64 if score.dtype == torch.float64 else torch.float32
    affinity = _affinity(views.to(dtype), power)
    column_sum = affinity.sum(0)  # (n,)
    walked = score.to(dtype).flatten(1)  # (K, n)
    weights = chebyshev_weights(steps, torch.finfo(dtype).eps)

    def step(rows: Tensor) -> Tensor:
        return (affinity @ rows.T).T / column_sum  # affinity is symmetric; this side is faster

    if len(weights) > steps:  # a short walk: the plain way is the shorter
        for _ in range(steps):
            walked = step(walked)
        return walked.reshape(score.shape)
    before, now = walked, 2 * step(walked) - walked  # T_0 and T_1 of 2T - 1
    walked = weights[0] * before + weights[1] * now
    for weight in weights[2:]:
        before, now = now, (4 * step(now)).sub_(now, alpha=2).sub_(before)
        walked.add_(now, alpha=weight)
    return walked.reshape(score.shape)


def chebyshev_weights(steps: int, tolerance: float) -> list[float]:
    """Weights w of x^steps = sum_k w_k T_k(2x - 1), without the last ones, whose sum is below `tolerance`.

    With x = cos^2(a/2), T_k(2x - 1) = cos(k a), and the powers of cos^2 are binomial: w_k = 2^(1 - 2n) C(2n, n - k),
    half of it for k = 0. All are positive and sum to one, so nothing cancels. The affinity is a positive definite
    kernel, so the eigenvalues of T lie in [0, 1], where every |T_k| <= 1; so the error is below `tolerance`.
    """
    weights, rest = [], 1.0
    for k in range(steps + 1):
        weight = math.comb(2 * steps, steps - k) / 4**steps * (1 if k == 0 else 2)  # integers: exact to the division
        weights.append(weight)
        rest -= weight
        if rest < tolerance:
            break
    return weights


def _affinity(views: Tensor, power: int) -> Tensor:
    """(n, n): the affinity of (V, C, h, w), averaged over the views, to `power`."""
    if len(views) == 1:  # nothing to average, so the power moves into the exponent and a pass over n x n is saved
        return _cosine(views[0]).sub_(1).mul_(5.0 * power).clamp_(min=LOWEST).exp_()
    total = torch.zeros((), dtype=views.dtype, device=views.device)
    for view in views:
        total = _cosine(view).sub_(1).mul_(5.0).exp_().add_(total)
    return total.div_(len(views)).clamp_(min=math.exp(LOWEST / power)).pow_(power)


def _cosine(view: Tensor) -> Tensor:
    """(n, n): the cosines between the pixels of (C, h, w)."""
    unit = F.normalize(view.flatten(1), dim=0)  # (C, n)
    return torch.mm(unit.T, unit)
