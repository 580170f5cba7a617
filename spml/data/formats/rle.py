"""Run lengths of masks: pixels outside, then inside, then outside .., and COCO's text form of them."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from spml.data.samples import DataError

Array = NDArray
Order = Literal["F", "C"]  # down the columns, as COCO does, or along the rows, as CVAT does
FIRST, BITS, MORE, SIGN = 48, 5, 0x20, 0x10  # of COCO's text: each letter less 48 holds five bits and "more follows"
MOST_LETTERS = 7  # of a number: run lengths of an image fit 32 bits


def encode(mask: Array, order: Order = "F") -> list[int]:
    """The run lengths of a mask (H, W) bool, the first of pixels outside."""
    flat = np.concatenate([[False], mask.astype(bool).ravel(order=order), [True]])
    flat[-1] = not flat[-2]
    change = np.flatnonzero(flat[1:] != flat[:-1])
    return np.diff(change, prepend=0).tolist()


def decode(counts: Sequence[int], size: tuple[int, int], where: str, order: Order = "F") -> Array:
    """The mask (H, W) bool of run lengths.

    Raises: DataError where a length is no whole number of at least 0, or they do not add up to H x W. Nothing larger
        than the mask is ever made.
    """
    total = size[0] * size[1]
    if len(counts) > 2 * total + 2 or not all(type(count) is int and count >= 0 for count in counts):
        raise DataError(f"{where}: expected run lengths, whole numbers of at least 0, at most {2 * total + 2} of them")
    if sum(counts) != total:
        raise DataError(f"{where}: expected run lengths of {size[1]} x {size[0]} = {total} pixels, got {sum(counts)}")
    inside = np.arange(len(counts)) % 2 == 1
    return np.repeat(inside, counts).reshape(size, order=order)


def compress(counts: Sequence[int]) -> str:
    """COCO's text of run lengths: from the third on each less the one two before, in letters of five bits."""
    text = []
    for place, count in enumerate(counts):
        value = count - counts[place - 2] if place > 2 else count
        while True:
            bits, value = value & 0x1F, value >> BITS
            more = value != (-1 if bits & SIGN else 0)
            text.append(chr(FIRST + bits + (MORE if more else 0)))
            if not more:
                break
    return "".join(text)


def decompress(text: str, where: str) -> list[int]:
    """The run lengths of COCO's text. Raises DataError for a text that is none."""
    counts: list[int] = []
    value = shift = 0
    for letter in text:
        bits = ord(letter) - FIRST
        if not 0 <= bits < 64 or shift >= MOST_LETTERS * BITS:
            raise DataError(f"{where}: expected COCO's compressed run lengths, got the letter {letter!a}")
        value |= (bits & 0x1F) << shift
        shift += BITS
        if bits & MORE:
            continue
        if bits & SIGN:
            value -= 1 << shift
        counts.append(value + counts[-2] if len(counts) > 2 else value)
        value = shift = 0
    if shift:
        raise DataError(f"{where}: the compressed run lengths end inside a number")
    return counts
