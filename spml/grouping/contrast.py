"""The pixel-to-segment contrastive loss (SPML, equation 5) for any relation between pixels and segments.

For pixel i with unit embedding z_i, own segment o, positives S+ and negatives S-, and E_s = exp(k z_i . p_s):

    loss_i = -log( num / (num + sum_{S-} E_s) ),   num = sum_{S+ without o} E_s, or E_o where that sum is empty
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from spml.errors import UserError

SAFE_CONCENTRATION = 64.0  # exp(+-64) and sums of it are far inside float32; above, chunks are computed in float64


@dataclass(frozen=True)
class Relation:
    """Which segments attract and which repel each group of pixels: G groups against P prototypes."""

    group: Tensor  # (N,) int64 in [0, G): the group of each pixel
    positive: Tensor  # (G, P) bool
    negative: Tensor  # (G, P) bool; neither = out of the relation's scope


def pixel_to_segment_loss(
    pixel: Tensor,
    prototype: Tensor,
    own: Tensor,
    relation: Relation,
    concentration: float,
    *,
    exclude_own: bool = True,
    reduction: str = "mean",
    backend: str = "auto",
    weight: Tensor | None = None,
    learned: int | None = None,
) -> Tensor:
    """Pull every pixel to the positive segments of its group and push it from the negative ones.

    It differs from the release in arithmetic only. The sum leaves out the own segment, where the release subtracts it;
    and a count decides whether a positive is left. Both matter in float32 when E_o dominates.

    Args:
        pixel: (N, C) float, unit rows. Lower precision than float32 is raised to it.
        prototype: (P, C) float, unit rows.
        own: (N,) int64 in [0, P), the segment that each pixel belongs to.
        relation: groups of pixels against prototypes. Leave pixels of the ignore index out.
        concentration: k > 0.
        exclude_own: True is the release's group mode `segsort+`, the formula above. False is its mode `segsort`:
            num = E_o always, and positives do not count.
        reduction: "mean" or "sum" over pixels, or "none" for (N,).
        backend: "dense" (the plain formula, N x P memory), "chunked" (same value and gradients, O(N + P) memory,
            any device), "triton" (fused kernels on CUDA; "chunked" takes over for concentrations above 64, more than
            128 channels and float64), or "auto", which chooses "chunked". The kernels have run in Triton's interpreter
            only; "auto" does not choose them before they are measured on a GPU.
        weight: (N,) float, multiplies each pixel's loss before the reduction; gets no gradient.
        learned: how many prototypes get a gradient, the first ones; the others are constants, such as those of past
            steps, and cost a third less. None: all.

    Returns:
        A scalar, or (N,) for "none"; 0 when N = 0. Gradients reach `pixel` and `prototype`.

    Raises:
        ValueError: an unknown reduction or backend, or shapes that do not fit.
        UserError: the backend "triton" where the package is missing or the tensors are not on CUDA.
    """
    _check(pixel, prototype, own, relation, concentration, reduction)
    backend = _resolve(backend, pixel, prototype, concentration)
    dtype = torch.promote_types(torch.promote_types(pixel.dtype, prototype.dtype), torch.float32)
    if not (backend == "triton" and pixel.dtype == prototype.dtype == torch.bfloat16):  # its kernels take it as it is
        pixel, prototype = pixel.to(dtype), prototype.to(dtype)
    scale = torch.ones(len(pixel), dtype=dtype, device=pixel.device) if weight is None else weight.detach().to(dtype)
    if reduction == "mean":
        scale = scale / max(len(pixel), 1)
    if len(pixel) == 0:
        empty = pixel.to(dtype).sum() + 0 * prototype.to(dtype).sum()
        return pixel.to(dtype).sum(dim=1) if reduction == "none" else empty
    learned = len(prototype) if learned is None else learned
    with torch.autocast(pixel.device.type, enabled=False):
        if backend == "dense":
            prototype = torch.cat([prototype[:learned], prototype[learned:].detach()])
            loss = dense_loss(pixel, prototype, own, relation, concentration, exclude_own) * scale
            return loss if reduction == "none" else loss.sum()
        sweep = _sweep_of(backend)
        inputs = (pixel, prototype, own, relation, float(concentration), exclude_own, learned, scale, sweep)
        return _PixelLoss.apply(*inputs) if reduction == "none" else _TotalLoss.apply(*inputs)


def dense_loss(
    pixel: Tensor, prototype: Tensor, own: Tensor, relation: Relation, concentration: float, exclude_own: bool
) -> Tensor:
    """Return (N,): the plain formula with N x P matrices and autograd. The other backends are tested against it."""
    similarity = concentration * pixel @ prototype.T  # (N, P)
    own_similarity = similarity.gather(1, own[:, None]).squeeze(1)  # (N,)
    lowest = torch.finfo(similarity.dtype).min / 4  # finite, so that an empty sum keeps a gradient of zero
    numerator = own_similarity
    if exclude_own:
        others = relation.positive[relation.group].scatter(1, own[:, None], False)
        total = similarity.masked_fill(~others, lowest).logsumexp(dim=1)
        numerator = torch.where(others.any(dim=1), total, own_similarity)
    negative = similarity.masked_fill(~relation.negative[relation.group], lowest).logsumexp(dim=1)
    return torch.logaddexp(numerator, negative) - numerator


class _TotalLoss(torch.autograd.Function):
    """The weighted sum, a scalar: one sweep over the pixels gives its value and its gradients."""

    @staticmethod
    def forward(ctx: Any, pixel, prototype, own, relation, concentration, exclude_own, learned, scale, sweep):
        rest = (own, relation, concentration, exclude_own, learned)
        wanted = ctx.needs_input_grad[0] or ctx.needs_input_grad[1]
        loss, *gradients = sweep(pixel, prototype, *rest, scale if wanted else None)
        if wanted:
            ctx.save_for_backward(*gradients)
        return (loss * scale).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor):
        pixel_grad, prototype_grad = ctx.saved_tensors
        return (grad * pixel_grad, grad * prototype_grad, *[None] * 7)


class _PixelLoss(torch.autograd.Function):
    """The loss of every pixel. The gradients need a second sweep, because `backward` learns their weights."""

    @staticmethod
    def forward(ctx: Any, pixel, prototype, own, relation, concentration, exclude_own, learned, scale, sweep):
        ctx.save_for_backward(pixel, prototype, scale)
        ctx.rest = (own, relation, concentration, exclude_own, learned, sweep)
        return sweep(pixel, prototype, own, relation, concentration, exclude_own, learned, None)[0] * scale

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor):
        pixel, prototype, scale = ctx.saved_tensors
        *rest, sweep = ctx.rest
        return (*sweep(pixel, prototype, *rest, grad * scale)[1:], *[None] * 7)


def _resolve(backend: str, pixel: Tensor, prototype: Tensor, concentration: float) -> str:
    """Return the backend that computes this: "dense", "chunked" or "triton"."""
    if backend not in ("auto", "dense", "chunked", "triton"):
        raise ValueError(f"backend: expected auto, dense, chunked or triton, got {backend!r}")
    if backend != "triton":
        return "dense" if backend == "dense" else "chunked"
    try:
        from spml.grouping import contrast_triton
    except ImportError:
        raise UserError("backend triton: needs the package triton: `pip install triton`") from None
    if not contrast_triton.runs_on(pixel.device):
        raise UserError(f"backend triton: expected tensors on a CUDA device, got {pixel.device}")
    return "triton" if contrast_triton.covers(pixel, prototype, concentration) else "chunked"


def _sweep_of(backend: str) -> Callable[..., tuple[Tensor, Tensor | None, Tensor | None]]:
    if backend == "chunked":
        from spml.grouping.contrast_chunked import chunked_sweep

        return chunked_sweep
    from spml.grouping.contrast_triton import triton_sweep

    return triton_sweep


def _check(pixel: Tensor, prototype: Tensor, own: Tensor, relation: Relation, k: float, reduction: str) -> None:
    if pixel.ndim != 2 or prototype.ndim != 2 or pixel.shape[1] != prototype.shape[1]:
        raise ValueError(f"expected pixel (N, C) and prototype (P, C), got {(*pixel.shape,)} and {(*prototype.shape,)}")
    for name, vector in (("own", own), ("relation.group", relation.group)):
        if vector.shape != pixel.shape[:1]:
            raise ValueError(f"{name}: expected shape {(len(pixel),)}, got {(*vector.shape,)}")
    for name, table in (("positive", relation.positive), ("negative", relation.negative)):
        if table.ndim != 2 or table.shape[1] != len(prototype) or table.dtype != torch.bool:
            raise ValueError(
                f"relation.{name}: expected bool (G, {len(prototype)}), got {table.dtype} {(*table.shape,)}"
            )
    if not k > 0:
        raise ValueError(f"concentration: expected a positive number, got {k}")
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f"reduction: expected mean, sum or none, got {reduction!r}")
