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

CHUNK_ELEMENTS = 1 << 19  # similarities held at a time: 2 MB of float32, so that a chunk stays in the cache
SAFE_CONCENTRATION = 64.0  # exp(+-64) and sums of it are far inside float32; above, chunks are computed in float64
LARGE_RATIO = 1e30  # of the sums of negatives and positives: far inside float32
MANY_GROUPS = 8  # a chunk of more groups than this finds its sums by masks a pixel instead of by products a group


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
) -> Tensor:
    """Pull every pixel to the positive segments of its group and push it from the negative ones.

    Differs from the release in arithmetic only: the own segment is left out of the sum instead of being subtracted
    from it, and whether a positive is left is decided by counting; both matter in float32 when E_o dominates.

    Args:
        pixel: (N, C) float, unit rows. Lower precision than float32 is raised to it.
        prototype: (P, C) float, unit rows.
        own: (N,) int64 in [0, P), the segment that each pixel belongs to.
        relation: groups of pixels against prototypes; pixels of the ignore index have no place here.
        concentration: k > 0.
        exclude_own: True is the release's group mode `segsort+`, the formula above. False is its mode `segsort`:
            num = E_o always, and positives do not count.
        reduction: "mean" or "sum" over pixels, or "none" for (N,).
        backend: "dense" (the plain formula, N x P memory), "chunked" (same value and gradients, O(N + P) memory,
            any device), "triton" (fused kernels on CUDA; concentrations above 64, more than 128 channels and float64
            go the chunked way), or "auto": chunked. The kernels have run in Triton's interpreter only; until they are
            measured on a GPU, they are not chosen for anybody.
        weight: (N,) float, multiplies each pixel's loss before the reduction; gets no gradient.

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
    with torch.autocast(pixel.device.type, enabled=False):
        if backend == "dense":
            loss = dense_loss(pixel, prototype, own, relation, concentration, exclude_own) * scale
            return loss if reduction == "none" else loss.sum()
        sweep = _sweep_of(backend)
        inputs = (pixel, prototype, own, relation, float(concentration), exclude_own, scale, sweep)
        return _PixelLoss.apply(*inputs) if reduction == "none" else _TotalLoss.apply(*inputs)


def dense_loss(
    pixel: Tensor, prototype: Tensor, own: Tensor, relation: Relation, concentration: float, exclude_own: bool
) -> Tensor:
    """Return (N,): the formula written down, by N x P matrices and autograd. The reference of the other backends."""
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
    """The weighted sum: a scalar, so value and gradients come out of one sweep over the pixels."""

    @staticmethod
    def forward(ctx: Any, pixel, prototype, own, relation, concentration, exclude_own, scale, sweep):
        wanted = ctx.needs_input_grad[0] or ctx.needs_input_grad[1]
        loss, *gradients = sweep(pixel, prototype, own, relation, concentration, exclude_own, scale if wanted else None)
        if wanted:
            ctx.save_for_backward(*gradients)
        return (loss * scale).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor):
        pixel_grad, prototype_grad = ctx.saved_tensors
        return (grad * pixel_grad, grad * prototype_grad, *[None] * 6)


class _PixelLoss(torch.autograd.Function):
    """The loss of every pixel; gradients need a second sweep, once their weights are known."""

    @staticmethod
    def forward(ctx: Any, pixel, prototype, own, relation, concentration, exclude_own, scale, sweep):
        ctx.save_for_backward(pixel, prototype, scale)
        ctx.rest = (own, relation, concentration, exclude_own, sweep)
        return sweep(pixel, prototype, own, relation, concentration, exclude_own, None)[0] * scale

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor):
        pixel, prototype, scale = ctx.saved_tensors
        *rest, sweep = ctx.rest
        return (*sweep(pixel, prototype, *rest, grad * scale)[1:], *[None] * 6)


def _chunked_sweep(
    pixel: Tensor,
    prototype: Tensor,
    own: Tensor,
    relation: Relation,
    concentration: float,
    exclude_own: bool,
    scale: Tensor | None,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Return the loss (N,) and, where `scale` (N,) is given, the gradients of sum(scale * loss).

    Pixels are taken in the order of their groups, so a chunk meets few groups, and only the prototypes of its groups'
    scope. With D = num + sum_{S-} E, the gradient with respect to a similarity k z.p_s is E_s (1/D - 1/num) for a
    positive and E_s / D for a negative, and so the gradients of z and p are two products more in the same chunk.
    """
    if concentration > SAFE_CONCENTRATION and pixel.dtype != torch.float64:
        inputs = (pixel.double(), prototype.double(), own, relation, concentration, exclude_own)
        loss, *gradients = _chunked_sweep(*inputs, None if scale is None else scale.double())
        return (loss.to(pixel.dtype), *(g if g is None else g.to(pixel.dtype) for g in gradients))  # type: ignore[return-value]
    group, order = relation.group.sort(stable=True)
    positive = relation.positive if exclude_own else torch.zeros_like(relation.positive)
    scope = positive | relation.negative
    own_positive = positive[relation.group, own]  # (N,)
    has_positive = positive.sum(dim=1)[relation.group] > own_positive  # (N,) another one than the own segment
    loss = torch.empty_like(pixel[:, 0])
    pixel_grad = torch.empty_like(pixel) if scale is not None else None
    prototype_grad = torch.zeros_like(prototype) if scale is not None else None

    bounds = _chunk_bounds(group, scope)
    for start, stop in zip(bounds, bounds[1:], strict=False):
        rows = order[start:stop]
        first, last = int(group[start]), int(group[stop - 1]) + 1
        columns = scope[first:last].any(dim=0).nonzero().squeeze(1)  # (p,)
        whole = len(columns) == len(prototype)
        z, p, o = pixel[rows], prototype if whole else prototype[columns], own[rows]  # (n, C), (p, C), (n,)
        own_prototype = prototype[o]  # (n, C)
        own_exp = (z * own_prototype).sum(dim=1).mul_(concentration).exp_()  # (n,)
        e = (z @ p.T).mul_(concentration).exp_()  # (n, p)
        inside = own_positive[rows].nonzero().squeeze(1)
        e[inside, torch.searchsorted(columns, o[inside])] = 0

        masks = [m[first:last] if whole else m[first:last, columns] for m in (positive, relation.negative)]
        sums = _GroupSums(e, group[start:stop] - first, *masks)
        found = has_positive[rows]
        numerator = torch.where(found, sums.positive, own_exp)
        denominator = numerator + sums.negative
        loss[rows] = log_ratio(numerator, sums.negative)
        if scale is None or pixel_grad is None or prototype_grad is None:
            continue
        factor = scale[rows] * concentration
        # 1 / D - 1 / num without its cancellation; no quotient here leaves float32, as sums.negative / num would
        repel, attract = factor / denominator, -(factor / numerator) * (sums.negative / denominator)  # (n,)
        w = sums.weighted(torch.where(found, attract, 0), repel)  # (n, p): gradient by z.p
        w_own = torch.where(found, 0, attract * own_exp)[:, None]  # (n, 1)
        pixel_grad[rows] = (w @ p).add_(w_own * own_prototype)
        if whole:
            prototype_grad.addmm_(w.T, z)
        else:
            prototype_grad.index_add_(0, columns, w.T @ z)
        prototype_grad.index_add_(0, o, w_own * z)
    return loss, pixel_grad, prototype_grad


def log_ratio(numerator: Tensor, negative: Tensor) -> Tensor:
    """log((numerator + negative) / numerator) of positive sums (n,), where their quotient may leave float32, too.

    At k = 64 sums reach from e^-64 to P e^64, and a quotient beyond e^88.7 is infinite in float32: then logarithms are
    subtracted. Elsewhere log1p keeps the digits of a small loss.
    """
    ratio = negative / numerator
    apart = torch.log(numerator + negative) - torch.log(numerator)
    return torch.where(ratio < LARGE_RATIO, torch.log1p(ratio), apart)


class _GroupSums:
    """Sums of the rows of e (n, p) over the positives and the negatives of each row's group, and their gradient."""

    def __init__(self, e: Tensor, group: Tensor, positive: Tensor, negative: Tensor) -> None:
        self.e, self.many = e, len(positive) > MANY_GROUPS
        if self.many:
            self.masks = positive[group], negative[group]  # (n, p) each
            self.positive, self.negative = (e.masked_fill(~mask, 0).sum(dim=1) for mask in self.masks)
        else:
            self.table = torch.cat([positive, negative]).to(e.dtype)  # (2G, p)
            self.column = torch.stack([group, group + len(positive)], dim=1)  # (n, 2)
            self.positive, self.negative = (e @ self.table.T).gather(1, self.column).unbind(dim=1)  # (n,), (n,)

    def weighted(self, attract: Tensor, repel: Tensor) -> Tensor:
        """Return (n, p), in the place of e: e times `attract` at positives, `repel` at negatives, 0 elsewhere."""
        if self.many:
            positive, negative = self.masks
            return self.e.mul_(torch.where(positive, attract[:, None], repel[:, None] * negative))
        spread = attract.new_zeros(len(attract), len(self.table))
        spread.scatter_(1, self.column, torch.stack([attract, repel], dim=1))
        return self.e.mul_(spread @ self.table)


def _chunk_bounds(group: Tensor, scope: Tensor) -> list[int]:
    """Cut the sorted groups (N,) into runs whose similarities, rows x largest scope, fit CHUNK_ELEMENTS.

    Groups of another scope are not mixed, so that a relation within images never compares two; nor is a group that is
    large by itself, so that it needs no masks a pixel.
    """
    width = scope.sum(dim=1).tolist()  # prototypes in each group's scope
    count = torch.bincount(group, minlength=len(scope)).tolist()
    present = group.unique()
    fresh = [True, *(scope[present[1:]] != scope[present[:-1]]).any(dim=1).tolist()]
    bounds, filled = [0], 0
    at = 0
    for index, new_scope in zip(present.tolist(), fresh, strict=True):
        size, room = count[index], max(CHUNK_ELEMENTS // max(width[index], 1), 16)
        if filled and (new_scope or filled + size > room or size * MANY_GROUPS > room):
            bounds.append(at)
            filled = 0
        while size > room:
            at, size = at + room, size - room
            bounds.append(at)
        at, filled = at + size, filled + size
    return [*bounds, at] if bounds[-1] != at else bounds


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
        return _chunked_sweep
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
