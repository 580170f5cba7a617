"""Prototypes with their labels and tags, and the memory bank of past steps (SPML, section 3.3)."""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Protocol

import torch
from torch import Tensor

from spml.grouping.segments import Segments


@dataclass(frozen=True)
class Prototypes:
    """P prototypes, and what the relations need to know of each."""

    prototype: Tensor  # (P, C) float, unit rows
    prototype_with_location: Tensor  # (P, C + 2) float, unit rows
    semantic_label: Tensor  # (P,) int64
    batch_index: Tensor  # (P,) int64: equal exactly where the image is the same
    semantic_tag: Tensor  # (P, num_classes) bool: the tags of the prototype's image

    @classmethod
    def of(cls, segments: Segments, semantic_tag: Tensor) -> "Prototypes":
        """Take the prototypes of `segments`; `semantic_tag` is (B, num_classes) bool."""
        return cls(
            segments.prototype,
            segments.prototype_with_location,
            segments.prototype_semantic_label,
            segments.prototype_batch_index,
            semantic_tag.bool()[segments.prototype_batch_index],
        )

    def tensors(self) -> dict[str, Tensor]:
        """Return the columns by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def concatenate(cls, parts: "list[Prototypes]") -> "Prototypes":
        """Stack the rows of several; batch indices stay as they are."""
        return cls(**{name: torch.cat([part.tensors()[name] for part in parts]) for name in parts[0].tensors()})


@dataclass(frozen=True)
class Gathered:
    """The prototypes of a step, of all processes; batch indices are distinct over all of them."""

    rows: Prototypes
    first: int  # where this process's rows start
    images: int  # of all processes


class Exchange(Protocol):
    """How the processes of a distributed run exchange segments, and rows of other kinds."""

    @property
    def processes(self) -> int:
        """How many there are; each has equally many images."""

    def gather(self, rows: Prototypes, num_images: int) -> Gathered:
        """Return the rows of all processes, given those of this one and its images; prototypes keep their gradient."""

    def stack(self, rows: Tensor) -> tuple[Tensor, int]:
        """Return the rows of all processes, without gradient, and where this one's start; all have equally many."""

    def total(self, number: Tensor) -> Tensor:
        """Return the sum of a number over all processes, without gradient."""


class _Alone:
    """The exchange of a single process."""

    processes = 1

    def gather(self, rows: Prototypes, num_images: int) -> Gathered:
        return Gathered(rows, 0, num_images)

    def stack(self, rows: Tensor) -> tuple[Tensor, int]:
        return rows.detach(), 0

    def total(self, number: Tensor) -> Tensor:
        return number


ALONE: Exchange = _Alone()


class MemoryBank:
    """The prototypes of the last `size` steps, detached, oldest first.

    Whenever a step is appended, the stored batch indices grow by its number of images, so that an image in the bank
    never shares an index with one of a later step.
    """

    def __init__(self, size: int) -> None:
        if size < 0:
            raise ValueError(f"size: expected 0 or more steps, got {size}")
        self.size = size
        self.steps: deque[tuple[Prototypes, int]] = deque(maxlen=size)

    def __len__(self) -> int:
        """Return the number of steps held."""
        return len(self.steps)

    def append(self, segments: Segments, semantic_tag: Tensor, gathered: Gathered | None = None) -> None:
        """Store a step: its segments and their `semantic_tag` (B, num_classes) bool.

        With several processes it stores what they `gathered` for the losses, so that no process sends its rows twice.
        """
        step = gathered or ALONE.gather(Prototypes.of(segments, semantic_tag), len(semantic_tag))
        columns = {name: value.detach() for name, value in step.rows.tensors().items()}
        self.steps.append((Prototypes(**columns), step.images))

    def prototypes(self, num_images: int) -> list[Prototypes]:
        """Return the stored steps, oldest first; their batch indices follow the `num_images` of the current step."""
        shifted = []
        for rows, images in reversed(self.steps):
            columns = rows.tensors()
            columns["batch_index"] = columns["batch_index"] + num_images
            shifted.append(Prototypes(**columns))
            num_images += images
        return shifted[::-1]

    def state_dict(self) -> dict[str, Any]:
        """Return plain tensors and numbers, safe for torch.save and weights_only loading."""
        return {"size": self.size, "steps": [{**rows.tensors(), "images": images} for rows, images in self.steps]}

    def load_state_dict(self, state: Mapping[str, Any], device: torch.device | str | None = None) -> None:
        """Replace the content by that of `state_dict()`, on `device` when given; keeps the newest `size` steps."""
        self.steps.clear()
        for step in state["steps"]:
            columns = {name: value.to(device) for name, value in step.items() if name != "images"}
            self.steps.append((Prototypes(**columns), int(step["images"])))
