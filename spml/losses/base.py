"""What a loss is, and what a task hands to it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from spml.grouping.memory import Exchange, Gathered, MemoryBank
from spml.grouping.segments import Segments


class Inputs(Protocol):
    """What a task gives to losses in a step, computed on first use. (H, W) is the size of the crop."""

    @property
    def logit(self) -> Tensor:
        """(B, K, h, w) float32, the classifier's raw scores."""

    @property
    def embedding(self) -> Tensor:
        """(B, D, h, w) float32, raw."""

    @property
    def label(self) -> Tensor:
        """(B, H, W) int64: a class below K; 255 is void or padding; any other value is unlabelled."""

    @property
    def rgb(self) -> Tensor:
        """(B, 3, H, W) float32 in 0..255, 0 where padded."""

    @property
    def inside(self) -> Tensor:
        """(B, H, W) bool: pixels of the image, void ones too; false where padded."""

    @property
    def valid(self) -> Tensor:
        """(B, H, W) bool: pixels of the image that are not void."""

    @property
    def tag(self) -> Tensor:
        """(B, K) bool: the classes in the whole image."""

    @property
    def background(self) -> int | None:
        """The class that is no object; None where every class is an object."""

    @property
    def exchange(self) -> Exchange:
        """The other processes: a mean is the sum over this process divided by `exchange.total(count)`."""

    @property
    def segments(self) -> Segments:
        """The batch's segments; only tasks that cluster have them."""

    @property
    def gathered(self) -> Gathered:
        """The prototypes of all processes."""

    @property
    def bank(self) -> MemoryBank:
        """The segments of past steps."""


@dataclass(frozen=True)
class Loss:
    """One entry of the table of losses.

    Args:
        help: one line on what it does.
        settings: a dataclass of `spml.config.settings.setting` fields, the first of them `weight`.
        inputs: the attributes of `Inputs` that it reads; a task that lacks one refuses the loss before any work. The
            gradient reaches the networks through "logit" and "embedding"; segments come from the embedding.
        function: (inputs, settings) -> a raw float32 scalar with gradient; 0 where nothing counts.
    """

    help: str
    settings: type
    inputs: tuple[str, ...]
    function: Callable[[Inputs, Any], Tensor]
