"""The pixel-to-segment loss and its gradients as two fused CUDA kernels; no pixel x prototype matrix reaches memory.

The first kernel walks over the prototypes for a tile of pixels. It sums E over the numerator and over the negatives,
and E times the prototypes over both, so value and pixel gradient come out of one walk. The second walks over the pixels
for a tile of prototypes, forms E anew and sums their gradient in a fixed order, without atomics. See `benchmarks/`
for the arithmetic.
"""

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from spml.grouping.contrast import SAFE_CONCENTRATION, Relation

MAX_CHANNELS = 128  # two float32 accumulators of 128 rows x C still fit the registers
WARPS = 8
PROGRAMS = 512  # of the second kernel, at least: enough for every GPU of today, a few each


def tile_size(device: torch.device, row_bytes: int) -> tuple[int, int]:
    """Rows of a program's own tile and columns of a step of its walk: as many as the GPU's registers hold.

    128 x 64 from compute capability 9 on, whose matrix units read one operand from shared memory; 64 x 32 before, where
    registers hold both. Rows wider than 256 bytes halve the step. A larger own tile reads less from the L2 cache again.
    We chose the sizes by the registers and spills that the compiler reports; we did not tune them on a device.
    """
    new = device.type != "cuda" or torch.cuda.get_device_capability(device) >= (9, 0)
    return (128, 64 if row_bytes <= 256 else 32) if new else (64, 32)


def covers(pixel: Tensor, prototype: Tensor, concentration: float) -> bool:
    """Whether the kernels compute this: at most 128 channels, concentration at most 64, no float64.

    Within these limits float32 holds exp(k z.p) and its sums, so the kernels need no maximum of each row.
    """
    wide = torch.float64 in (pixel.dtype, prototype.dtype)
    return not wide and concentration <= SAFE_CONCENTRATION and pixel.shape[1] <= MAX_CHANNELS


def runs_on(device: torch.device) -> bool:
    """Whether kernels can be started for tensors of `device`: on CUDA, or anywhere under Triton's interpreter."""
    return device.type == "cuda" or not isinstance(_pixel_kernel, triton.runtime.JITFunction)


def triton_sweep(
    pixel: Tensor,
    prototype: Tensor,
    own: Tensor,
    relation: Relation,
    concentration: float,
    exclude_own: bool,
    learned: int,
    scale: Tensor | None,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Return the loss (N,) and, where `scale` (N,) is given, the gradients of sum(scale * loss), all float32.

    The same contract as the chunked sweep. Extra memory: three numbers a pixel, one byte for each entry of the
    relation's tables, and the prototypes' gradient a few times.

    Args:
        pixel, prototype: (N, C) and (P, C), N >= 1, both float32 or both bfloat16, unit rows. Products of float32 are
            computed as three of TF32 (relative error about 1e-6); those of bfloat16 are exact, but in the gradients E
            is rounded to bfloat16 before its product. Sums are float32.
        own, relation, concentration, exclude_own, learned: as in `pixel_to_segment_loss`, within what `covers` says.
    """
    pixel, prototype = pixel.contiguous(), prototype.contiguous()
    (n, channels), p = pixel.shape, len(prototype)
    rows, columns = tile_size(pixel.device, channels * pixel.element_size())
    compiled = isinstance(_pixel_kernel, triton.runtime.JITFunction)
    found, first, last, code = _tables(relation, own, exclude_own)
    inputs = (pixel, prototype, own.int(), relation.group.int(), found, code)
    factors = pixel.new_empty(3, n, dtype=torch.float32)  # loss, and the weights of numerator and negatives in w
    pixel_grad = pixel.new_empty(n if scale is not None else 0, channels, dtype=torch.float32)
    exponent = concentration * math.log2(math.e)  # exp(k s) = 2^(k log2(e) s), which the hardware computes
    shape = {
        "C": channels,
        "BLOCK_C": max(16, triton.next_power_of_2(channels)),  # the matrix units want 16 at least
        "ROWS": rows,
        "COLUMNS": columns,
        # the interpreter's product knows no bfloat16
        "PRODUCT": tl.bfloat16 if pixel.dtype == torch.bfloat16 and compiled else tl.float32,
        "PRECISION": "tf32x3" if pixel.dtype == torch.float32 else "ieee",
        "num_warps": WARPS,
        "num_stages": 2,
    }
    tiles = _tile_spans(first, last, rows, columns)
    weight = factors[0] if scale is None else (scale * concentration).float().contiguous()
    numbers = (n, p, code.stride(0), exponent)
    grid: tuple[int, ...] = (len(tiles[0]),)
    _pixel_kernel[grid](*inputs, weight, *tiles, *factors, pixel_grad, *numbers, GRADIENT=scale is not None, **shape)
    if scale is None:
        return factors[0], None, None

    tiles = _transposed_spans(*_tile_spans(first, last, columns, rows), -(-p // rows))
    splits = max(1, min(-(-PROGRAMS // len(tiles[0])), -(-n // columns)))  # parts of the walk, summed afterwards
    part = pixel.new_empty(splits, p, channels, dtype=torch.float32)
    grid = (len(tiles[0]), splits)
    _prototype_kernel[grid](*inputs, *factors[1:], *tiles, part, *numbers, **shape)
    prototype_grad = part.sum(dim=0)
    prototype_grad[learned:] = 0
    return factors[0], pixel_grad, prototype_grad


def _tables(relation: Relation, own: Tensor, exclude_own: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What the kernels read of a relation.

    Returns:
        found (N,) uint8: whether there is a positive beside the own segment; if not, the own segment is the numerator.
        first, last (N,) int64: the span of prototypes that the pixel meets, its own segment among them.
        code (G, P or more) uint8: 1 positive, 2 negative; rows of a multiple of 16 bytes are loaded 16 at a time.
    """
    group, p = relation.group, relation.positive.shape[1]
    positive = relation.positive if exclude_own else torch.zeros_like(relation.positive)
    found = positive.sum(dim=1)[group] > positive[group, own]
    first, last = _span(positive | relation.negative)  # (G,) each
    code = torch.zeros(len(positive), -(-p // 16) * 16, dtype=torch.uint8, device=own.device)
    code[:, :p] = positive.to(torch.uint8) + 2 * relation.negative.to(torch.uint8)
    return found.to(torch.uint8), torch.minimum(first[group], own), torch.maximum(last[group], own + 1), code


def _span(mask: Tensor) -> tuple[Tensor, Tensor]:
    """First and one past the last true column of each row of (R, S) bool, (R,) int64 each; (S, 0) for an empty row."""
    size = mask.shape[1]
    some = mask.any(dim=1)
    first = mask.to(torch.uint8).argmax(dim=1)
    last = size - mask.flip(1).to(torch.uint8).argmax(dim=1)
    return torch.where(some, first, size), torch.where(some, last, 0)


def _tile_spans(first: Tensor, last: Tensor, rows: int, columns: int) -> tuple[Tensor, Tensor]:
    """Spans of prototypes a pixel (N,) -> spans of tiles of `columns` prototypes a tile of `rows` pixels, int32."""
    padding = -len(first) % rows
    first = torch.cat([first, first[-1:].expand(padding)]).reshape(-1, rows).amin(dim=1)
    last = torch.cat([last, last[-1:].expand(padding)]).reshape(-1, rows).amax(dim=1)
    return (first // columns).int(), ((last + columns - 1) // columns).int()


def _transposed_spans(first: Tensor, last: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Spans of prototype tiles a pixel tile -> spans of pixel tiles for each of `count` prototype tiles, int32."""
    tile = torch.arange(count, device=first.device)[:, None]
    first, last = _span((first <= tile) & (tile < last))
    return first.int(), last.int()


@triton.jit
def _pixel_kernel(
    pixel,
    prototype,
    own,
    group,
    found,
    code,
    weight,
    first,
    last,
    loss,
    pull_weight,
    push_weight,
    pixel_grad,
    n,
    p,
    code_stride,
    exponent,
    GRADIENT: tl.constexpr,
    C: tl.constexpr,
    BLOCK_C: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    PRODUCT: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """For one tile of pixels: their loss and, if wanted, their gradient and the factors of the second kernel."""
    tile = tl.program_id(0)
    row = tile * ROWS + tl.arange(0, ROWS)
    inside = row < n
    channel = tl.arange(0, BLOCK_C)
    z_at = tl.arange(0, ROWS)[:, None] * C + channel[None, :]
    z_inside = inside[:, None] & (channel < C)[None, :]
    z_base = pixel + tile.to(tl.int64) * ROWS * C
    z = tl.load(z_base + z_at, mask=z_inside, other=0.0).to(PRODUCT)  # (ROWS, BLOCK_C)
    own_column = tl.load(own + row, mask=inside, other=-1)
    code_row = tl.load(group + row, mask=inside, other=0).to(tl.int64) * code_stride
    has_positive = tl.load(found + row, mask=inside, other=0) != 0

    pull_sum = tl.zeros((ROWS,), tl.float32)
    push_sum = tl.zeros((ROWS,), tl.float32)
    pull_vector = tl.zeros((ROWS, BLOCK_C), tl.float32)
    push_vector = tl.zeros((ROWS, BLOCK_C), tl.float32)
    begin, end = tl.load(first + tile), tl.load(last + tile)
    for step in range(0, end - begin):
        at = begin + step
        column = at * COLUMNS + tl.arange(0, COLUMNS)
        s_at = tl.arange(0, COLUMNS)[:, None] * C + channel[None, :]
        s_inside = (column < p)[:, None] & (channel < C)[None, :]
        s = tl.load(prototype + at.to(tl.int64) * COLUMNS * C + s_at, mask=s_inside, other=0.0).to(PRODUCT)
        bits = tl.load(code + code_row[:, None] + column[None, :], mask=(column < p)[None, :], other=0)
        e = tl.exp2(tl.dot(z, tl.trans(s), input_precision=PRECISION) * exponent)  # (ROWS, COLUMNS)
        mine = own_column[:, None] == column[None, :]
        pulls = (has_positive[:, None] & ((bits & 1) != 0) & ~mine) | (~has_positive[:, None] & mine)
        pull = tl.where(pulls, e, 0.0)
        push = tl.where((bits & 2) != 0, e, 0.0)
        pull_sum += tl.sum(pull, axis=1)
        push_sum += tl.sum(push, axis=1)
        if GRADIENT:
            pull_vector = tl.dot(pull.to(PRODUCT), s, pull_vector, input_precision=PRECISION)
            push_vector = tl.dot(push.to(PRODUCT), s, push_vector, input_precision=PRECISION)

    numerator = tl.where(inside, pull_sum, 1.0)
    denominator = numerator + push_sum
    ratio = push_sum / numerator
    # Beyond e^88.7 the quotient is infinite in float32; a difference of logarithms is not, but less exact below.
    value = tl.where(ratio < 1e30, tl.log(1 + ratio), tl.log(denominator) - tl.log(numerator))
    tl.store(loss + row, value, mask=inside)
    if GRADIENT:
        factor = tl.load(weight + row, mask=inside, other=0.0)
        push_by = factor / denominator
        pull_by = -(factor / numerator) * (push_sum / denominator)  # 1/D - 1/num: no cancellation, no overflow
        tl.store(pull_weight + row, pull_by, mask=inside)
        tl.store(push_weight + row, push_by, mask=inside)
        grad = pull_by[:, None] * pull_vector + push_by[:, None] * push_vector
        tl.store(pixel_grad + tile.to(tl.int64) * ROWS * C + z_at, grad, mask=z_inside)


@triton.jit
def _prototype_kernel(
    pixel,
    prototype,
    own,
    group,
    found,
    code,
    pull_weight,
    push_weight,
    first,
    last,
    part,
    n,
    p,
    code_stride,
    exponent,
    C: tl.constexpr,
    BLOCK_C: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    PRODUCT: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """For one tile of prototypes: their gradient from one part of the pixels that meet them."""
    tile, split = tl.program_id(0), tl.program_id(1)
    row = tile * ROWS + tl.arange(0, ROWS)
    inside = row < p
    channel = tl.arange(0, BLOCK_C)
    s_at = tl.arange(0, ROWS)[:, None] * C + channel[None, :]
    s_inside = inside[:, None] & (channel < C)[None, :]
    s = tl.load(prototype + tile.to(tl.int64) * ROWS * C + s_at, mask=s_inside, other=0.0).to(
        PRODUCT
    )  # (ROWS, BLOCK_C)

    begin, end = tl.load(first + tile), tl.load(last + tile)
    length = tl.cdiv(tl.maximum(end - begin, 0), tl.num_programs(1))
    start = begin + split * length
    grad = tl.zeros((ROWS, BLOCK_C), tl.float32)
    for step in range(0, tl.minimum(start + length, end) - start):
        at = start + step
        column = at * COLUMNS + tl.arange(0, COLUMNS)
        valid = column < n
        z_at = tl.arange(0, COLUMNS)[:, None] * C + channel[None, :]
        z_inside = valid[:, None] & (channel < C)[None, :]
        z = tl.load(pixel + at.to(tl.int64) * COLUMNS * C + z_at, mask=z_inside, other=0.0).to(PRODUCT)
        own_row = tl.load(own + column, mask=valid, other=-1)
        code_row = tl.load(group + column, mask=valid, other=0).to(tl.int64) * code_stride
        has_positive = tl.load(found + column, mask=valid, other=0) != 0
        pull_by = tl.load(pull_weight + column, mask=valid, other=0.0)
        push_by = tl.load(push_weight + column, mask=valid, other=0.0)
        bits = tl.load(code + code_row[None, :] + row[:, None], mask=inside[:, None], other=0)
        e = tl.exp2(tl.dot(s, tl.trans(z), input_precision=PRECISION) * exponent)  # (ROWS, COLUMNS)
        mine = own_row[None, :] == row[:, None]
        pulls = (has_positive[None, :] & ((bits & 1) != 0) & ~mine) | (~has_positive[None, :] & mine)
        w = e * (tl.where(pulls, pull_by[None, :], 0.0) + tl.where((bits & 2) != 0, push_by[None, :], 0.0))
        grad = tl.dot(w.to(PRODUCT), z, grad, input_precision=PRECISION)
    part_at = (split.to(tl.int64) * p + tile * ROWS) * C
    tl.store(part + part_at + s_at, grad, mask=s_inside)
