"""The pixel-to-segment loss and its gradients in one sweep over blocks of pixels; memory O(N + P), on any device.

Let num be the sum of E over the positives, neg that over the negatives, D = num + neg, and s the similarity z.p. Then

    d loss / d s_p = k E_p / D  for a negative,      -k E_p / num * neg / D  for a positive.

Both factors beside E_p belong to the pixel. In a block whose pixels share one group, the columns of E stand in two
runs, positives first: no mask is needed, and the factors multiply rows of C numbers, not of P.
"""

import math

import torch
from torch import Tensor

from spml.grouping.contrast import SAFE_CONCENTRATION, Relation

CHUNK_ELEMENTS = 1 << 19  # similarities held at a time: 2 MB of float32, so that a chunk stays in the cache
ALONE = 1 << 18  # pairs from which on a group is worth blocks of its own; calls cost more than masks below
LARGE_RATIO = 1e30  # of the sums of negatives and positives: far inside float32

Result = tuple[Tensor, Tensor | None, Tensor | None]


def chunked_sweep(
    pixel: Tensor,
    prototype: Tensor,
    own: Tensor,
    relation: Relation,
    concentration: float,
    exclude_own: bool,
    learned: int,
    scale: Tensor | None,
) -> Result:
    """Return the loss (N,) and, where `scale` (N,) is given, the gradients of sum(scale * loss).

    Args:
        pixel, prototype, own, relation, concentration, exclude_own, learned: as in `pixel_to_segment_loss`, N >= 1.

    Returns:
        (N,), and (N, C) and (P, C) or None; the gradient is zero at prototypes from `learned` on.
    """
    if concentration > SAFE_CONCENTRATION and pixel.dtype != torch.float64:
        inputs = (pixel.double(), prototype.double(), own, relation, concentration, exclude_own, learned)
        loss, *gradients = chunked_sweep(*inputs, None if scale is None else scale.double())
        return (loss.to(pixel.dtype), *(g if g is None else g.to(pixel.dtype) for g in gradients))  # type: ignore[return-value]
    sweep = _Sweep(pixel, prototype, own, relation, concentration, exclude_own, learned, scale)
    order, runs = _runs(relation.group, sweep.positive | relation.negative)
    for groups, start, stop in runs:
        block = sweep.one_group if len(groups) == 1 else sweep.many_groups
        block(groups, slice(start, stop) if order is None else order[start:stop])
    return sweep.result()


def log_ratio(numerator: Tensor, negative: Tensor) -> Tensor:
    """log((numerator + negative) / numerator) of positive sums (n,), finite even if their quotient overflows float32.

    At k = 64 sums reach from e^-64 to P e^64, and a quotient beyond e^88.7 is infinite in float32. There we subtract
    logarithms. Elsewhere log1p keeps the digits of a small loss.
    """
    ratio = negative / numerator
    apart = torch.log(numerator + negative) - torch.log(numerator)
    return torch.where(ratio < LARGE_RATIO, torch.log1p(ratio), apart)


def _runs(group: Tensor, scope: Tensor) -> tuple[Tensor | None, list[tuple[Tensor, int, int]]]:
    """Cut the groups into runs: a large one alone, or neighbours of one scope, so that no block leaves a scope.

    Args:
        group: (N,) int64, the group of each pixel.
        scope: (G, P) bool.

    Returns:
        An order (N,) of the pixels that sorts them by run, None if they are sorted; and of each run its groups (g,),
        ascending, and where its pixels start and stop in that order.
    """
    count = torch.bincount(group, minlength=len(scope))
    present = count.nonzero().squeeze(1)  # (G',)
    inside, pixels = scope[present], count[present]
    alone = pixels * inside.sum(dim=1) >= ALONE
    fresh = torch.ones_like(alone)
    fresh[1:] = alone[1:] | alone[:-1] | (inside[1:] != inside[:-1]).any(dim=1)
    run = fresh.cumsum(0) - 1  # (G',)
    run_of = torch.zeros_like(count)
    run_of[present] = run
    key = run_of[group]  # (N,)
    order = None if bool((key[1:] >= key[:-1]).all()) else key.argsort(stable=True)
    runs, start = [], 0
    groups = present.tensor_split(fresh.nonzero().squeeze(1)[1:].cpu())
    for members, size in zip(groups, torch.bincount(key).tolist(), strict=True):
        runs.append((members, start, start + size))
        start += size
    return order, runs


class _Sweep:
    """The inputs, the results so far, and the memory that blocks use again."""

    def __init__(
        self,
        pixel: Tensor,
        prototype: Tensor,
        own: Tensor,
        relation: Relation,
        concentration: float,
        exclude_own: bool,
        learned: int,
        scale: Tensor | None,
    ) -> None:
        self.pixel, self.prototype, self.own, self.group = pixel, prototype, own, relation.group
        self.positive = relation.positive if exclude_own else torch.zeros_like(relation.positive)
        self.negative, self.learned = relation.negative, learned
        self.exponent = concentration * math.log2(math.e)  # exp(k s) = 2^(k log2(e) s), which is faster than exp
        self.inside = self.positive[relation.group, own]  # (N,) whether the own segment is a positive
        self.found = self.positive.sum(dim=1)[relation.group] > self.inside  # (N,) whether another one is
        self.all_found = bool(self.found.all())
        self.factor = None if scale is None else scale * concentration
        self.sums = pixel.new_empty(2, len(pixel))  # numerator and negatives
        self.pixel_grad = torch.empty_like(pixel) if scale is not None else None
        self.prototype_grad = torch.zeros_like(prototype) if scale is not None else None
        self.memory: dict[str, Tensor] = {}
        self.alone: tuple[Tensor, ...] = ()  # of a chunk: pixels whose own segment is the numerator, and its gradient

    def result(self) -> Result:
        return log_ratio(*self.sums), self.pixel_grad, self.prototype_grad

    def one_group(self, groups: Tensor, rows: slice | Tensor) -> None:
        """The pixels of one group: positives are the first columns, negatives the others."""
        positive, negative = (table[groups[0]].nonzero().squeeze(1) for table in (self.positive, self.negative))
        columns = torch.cat([positive, negative])
        width, split = len(columns), len(positive)
        p = self.prototype[columns]
        scaled = (p * self.exponent).T
        place = torch.zeros_like(self.own[:1]).expand(len(self.prototype)).clone()
        place[positive] = torch.arange(split, device=place.device)
        learned = [int((part < self.learned).sum()) for part in (positive, negative)]
        spans = ((0, split, learned[0]), (split, width, learned[1]))
        grads = [p.new_zeros(count, p.shape[1]) for count in learned]
        for chunk in _chunks(rows, width):
            z = _take(self.pixel, chunk)
            e = self._similar(z, scaled)
            self._leave_out_own(e, place.index_select(0, _take(self.own, chunk)), chunk)
            factors = self._factors(z, chunk, e[:, :split].sum(dim=1), e[:, split:].sum(dim=1))
            if factors is None:
                continue
            grad = self._memory("grad", z.shape)
            total_grad = self._memory("total", z.shape).zero_()
            for (first, last, count), factor, sums in zip(spans, factors, grads, strict=True):
                torch.mm(e[:, first:last], p[first:last], out=grad)
                total_grad.addcmul_(grad, factor[:, None])
                if count:
                    torch.mul(z, factor[:, None], out=grad)
                    sums.addmm_(e[:, first : first + count].T, grad)
            self._keep(chunk, total_grad)
        if self.prototype_grad is not None:
            for part, count, sums in zip((positive, negative), learned, grads, strict=True):
                self.prototype_grad.index_add_(0, part[:count], sums)

    def many_groups(self, groups: Tensor, rows: slice | Tensor) -> None:
        """The pixels of several groups of one scope: a mask a pixel tells positives from negatives."""
        inside = self.positive[groups[0]] | self.negative[groups[0]]
        columns = inside.nonzero().squeeze(1)
        width = len(columns)
        p, table = self.prototype[columns], self.positive[:, columns]
        scaled = (p * self.exponent).T
        place = inside.cumsum(0) - 1
        count = int((columns < self.learned).sum())
        sums = p.new_zeros(count, p.shape[1])
        for chunk in _chunks(rows, width):
            z = _take(self.pixel, chunk)
            e = self._similar(z, scaled)
            self._leave_out_own(e, place.index_select(0, _take(self.own, chunk)).clamp_(min=0), chunk)
            mask = table.index_select(0, _take(self.group, chunk))
            pulling = self._memory("mask", e.shape).copy_(mask).mul_(e)  # (n, p)
            e.sub_(pulling)  # exactly 0 where a positive stood
            factors = self._factors(z, chunk, pulling.sum(dim=1), e.sum(dim=1))
            if factors is None:
                continue
            attract, repel = factors
            w = e.mul_(repel[:, None]).addcmul_(pulling, attract[:, None])  # (n, p): gradient by z.p
            self._keep(chunk, torch.mm(w, p, out=self._memory("grad", z.shape)))
            sums.addmm_(w[:, :count].T, z)
        if self.prototype_grad is not None:
            self.prototype_grad.index_add_(0, columns[:count], sums)

    def _similar(self, z: Tensor, scaled: Tensor) -> Tensor:
        """E (n, p) of rows z (n, C), written over that of the chunk before."""
        e = self._memory("e", (len(z), scaled.shape[1]))
        return torch.mm(z, scaled, out=e).exp2_()

    def _leave_out_own(self, e: Tensor, column: Tensor, chunk: slice | Tensor) -> None:
        """Set E to 0 at the own segment, in `column` (n,), of the rows in which it is a positive."""
        if e.shape[1]:
            column = column[:, None]
            e.scatter_(1, column, e.gather(1, column).masked_fill_(_take(self.inside, chunk)[:, None], 0))

    def _factors(
        self, z: Tensor, chunk: slice | Tensor, numerator: Tensor, negative: Tensor
    ) -> tuple[Tensor, Tensor] | None:
        """Store the sums (n,) of a chunk; return what E is multiplied by in the gradient, or None if none is wanted.

        Pixels without another positive have the own segment as numerator, and its gradient is complete here.
        """
        alone = None
        if not self.all_found:
            rows = (~_take(self.found, chunk)).nonzero().squeeze(1)
            own = _take(self.own, chunk)[rows]
            own_exp = (z[rows] * self.prototype[own]).sum(dim=1).mul_(self.exponent).exp2_()
            numerator[rows] = own_exp
            alone = rows, own, own_exp
        self.sums[0][chunk], self.sums[1][chunk] = numerator, negative
        if self.factor is None:
            return None
        factor, denominator = _take(self.factor, chunk), numerator + negative
        # 1 / D - 1 / num without its cancellation; no quotient here leaves float32, as negative / numerator would
        repel, attract = factor / denominator, -(factor / numerator) * (negative / denominator)
        if alone is not None:
            rows, own, own_exp = alone
            self.alone = rows, own, (attract[rows] * own_exp)[:, None], z[rows]
            attract[rows] = 0
        return attract, repel

    def _keep(self, chunk: slice | Tensor, grad: Tensor) -> None:
        """Store the pixel gradient (n, C) of a chunk, with that of pixels whose only positive is their own segment."""
        assert self.pixel_grad is not None and self.prototype_grad is not None
        if not self.all_found:
            rows, own, w, z = self.alone
            grad.index_add_(0, rows, w * self.prototype[own])
            learned = own < self.learned
            self.prototype_grad.index_add_(0, own[learned], (w * z)[learned])
        self.pixel_grad[chunk] = grad

    def _memory(self, name: str, shape: torch.Size | tuple[int, ...]) -> Tensor:
        """Memory of a shape, the same for each name wherever it suffices."""
        size = math.prod(shape)
        if name not in self.memory or self.memory[name].numel() < size:
            self.memory[name] = self.pixel.new_empty(size)
        return self.memory[name][:size].view(shape)


def _take(rows: Tensor, chunk: slice | Tensor) -> Tensor:
    """Rows of a tensor; a view where the chunk is a slice."""
    return rows[chunk] if isinstance(chunk, slice) else rows.index_select(0, chunk)


def _chunks(rows: slice | Tensor, width: int) -> list[slice | Tensor]:
    """Cut rows, a slice or indices, into chunks of at most CHUNK_ELEMENTS similarities, but of 16 rows at least."""
    size = max(CHUNK_ELEMENTS // max(width, 1), 16)
    if isinstance(rows, Tensor):
        return list(rows.split(size))
    starts = range(rows.start, rows.stop, size)
    return [slice(start, min(start + size, rows.stop)) for start in starts]
