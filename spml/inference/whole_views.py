"""The network on whole views of an image, as in the release's pseudo labels, and maps at 1/8 of its size."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from spml.inference.views import ViewPlan
from spml.models.layers import resize

STRIDE = 8  # pixels of the image to one of the walk


@dataclass(frozen=True)
class WholeViews:
    """The maps of a network on the whole views of an image, padded to at least the crop.

    Args:
        model: image and size to raw embedding, as EmbeddingModel; in eval mode, on `device`.
        plan: of the views.
    """

    model: Callable[[Tensor, tuple[int, int]], Tensor]
    plan: ViewPlan
    device: torch.device

    @torch.no_grad()
    def padded(self, image: Tensor) -> Iterator[tuple[Tensor, tuple[int, int]]]:
        """For each scale of (3, H, W), the raw embedding (1 or 2, D, *padded size), and the view's size in it."""
        for views in self.plan.views(image):
            height, width = views.shape[-2:]
            below, right = max(0, self.plan.crop_size[0] - height), max(0, self.plan.crop_size[1] - width)
            views = F.pad(views.to(self.device), (0, right, 0, below))
            yield self.model(views, (views.shape[-2], views.shape[-1])), (height, width)

    def at_eighth(self, image: Tensor) -> Tensor:
        """(V, D, h / 8, w / 8): the embeddings of all views of (3, H, W)."""
        size = eighth(working_size(self.plan, image))
        maps = [resize(unmirrored(cut(embedding, view)), size) for embedding, view in self.padded(image)]
        return torch.cat(maps)


def working_size(plan: ViewPlan, image: Tensor) -> tuple[int, int]:
    """(h, w) at which (3, H, W) is labelled: its own, unless max_pixels makes it smaller."""
    return plan.output_size((image.shape[1], image.shape[2]))


def eighth(size: tuple[int, int]) -> tuple[int, int]:
    """The size of the scores in the random walk."""
    return max(1, size[0] // STRIDE), max(1, size[1] // STRIDE)


def cut(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """The maps (B, D, H, W) without their padding."""
    return maps[..., : size[0], : size[1]]


def unmirrored(maps: Tensor) -> Tensor:
    """The maps (1 or 2, D, h, w) of an image and its mirror image, the second mirrored back."""
    return maps if len(maps) == 1 else torch.stack([maps[0], maps[1].flip(-1)])
