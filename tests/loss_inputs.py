"""A step's inputs from tensors, for tests of losses; and settings with chosen values."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from spml.grouping.memory import ALONE


@dataclass
class FakeInputs:
    """`spml.losses.base.Inputs` of given tensors."""

    logit: Tensor
    embedding: Tensor
    label: Tensor
    rgb: Tensor
    valid: Tensor
    inside: Tensor
    tag: Tensor
    background: int | None = 0
    exchange: object = field(default=ALONE)

    def part(self, rows: slice, exchange: object) -> "FakeInputs":
        """The images `rows` of the batch, as one process of several has them."""
        tensors = {name: value[rows] for name, value in vars(self).items() if isinstance(value, Tensor)}
        return FakeInputs(**tensors, background=self.background, exchange=exchange)


def make_inputs(batch=2, classes=4, channels=3, size=(12, 16), small=(6, 8), seed=0) -> FakeInputs:
    """Random images with few labels, a void row at the top and padding on the right; leaf scores and embedding."""
    generator = torch.Generator().manual_seed(seed)
    height, width = size
    label = torch.full((batch, height, width), 254)
    sown = torch.rand(batch, height, width, generator=generator) < 0.1
    label[sown] = torch.randint(classes, label.shape, generator=generator)[sown]
    inside = torch.ones(batch, height, width, dtype=torch.bool)
    inside[:, :, width - 4 :] = False
    label[:, :1] = 255
    label[~inside] = 255
    tag = torch.stack([(label == k).flatten(1).any(1) for k in range(classes)], 1)
    rgb = (255 * torch.rand(batch, 3, height, width, generator=generator)) * inside[:, None]
    return FakeInputs(
        logit=torch.randn(batch, classes, *small, generator=generator).requires_grad_(),
        embedding=torch.randn(batch, channels, *small, generator=generator).requires_grad_(),
        label=label,
        rgb=rgb,
        valid=inside & (label != 255),
        inside=inside,
        tag=tag,
    )


class Half:
    """The exchange of one of two processes, of which the other has the same calls in the same order.

    Run a function for each process twice: the first round records what each gives, the second one adds.
    """

    processes = 2

    def __init__(self, own: list[Tensor], other: list[Tensor] | None = None) -> None:
        self.own, self.other, self.calls = own, other, 0

    def total(self, number: Tensor) -> Tensor:
        number = number.detach().clone()
        if self.other is None:
            self.own.append(number)
            return number
        self.calls += 1
        return number + self.other[self.calls - 1]


def in_two_processes(function, inputs: FakeInputs) -> list[Tensor]:
    """The values of `function(part of the batch)` in two processes that share each half."""
    halves = [slice(0, len(inputs.label) // 2), slice(len(inputs.label) // 2, None)]
    told: list[list[Tensor]] = [[], []]
    for own, rows in zip(told, halves, strict=True):
        function(inputs.part(rows, Half(own)))
    return [function(inputs.part(rows, Half([], other))) for rows, other in zip(halves, told[::-1], strict=True)]
