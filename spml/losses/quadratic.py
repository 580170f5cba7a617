"""The quadratic form S' W S with its exact gradient 2 W S, for a symmetric W that is given as a filter."""

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

Filter = Callable[[Tensor], Tensor]


class _Quadratic(Function):
    """Filters once for value and gradient. It keeps a tensor of the size of the values for the gradient."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, filter_by: Filter) -> Tensor:
        filtered = filter_by(values)
        ctx.save_for_backward(filtered)
        return (values * filtered).sum((2, 3))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (filtered,) = ctx.saved_tensors
        return 2 * grad[:, :, None, None] * filtered, None


def quadratic(values: Tensor, filter_by: Filter) -> Tensor:
    """S_k' W S_k of each image and class: (B, K, h, w) float -> (B, K).

    Args:
        filter_by: (B, K, h, w) -> (B, K, h, w), linear and symmetric, class by class and image by image.
    """
    return _Quadratic.apply(values, filter_by)
