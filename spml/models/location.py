"""Features that say where a pixel lies, and for DensePose what colour surrounds it."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spml.grouping.kmeans import location_features
from spml.models.layers import resize

KERNEL_SIZE = 5


def location_of(image: Tensor, size: Sequence[int]) -> Tensor:
    """(B, h, w, 2) float32 for an image (B, 3, H, W): y and x of every cell; see `location_features`."""
    grid = location_features(int(size[0]), int(size[1]), image.device)
    return grid.expand(len(image), -1, -1, -1)


class DistanceKernel(nn.Module):
    """A fixed 5x5 filter, the same for each of three channels: weight = distance from the centre / sum of distances."""

    weight: Tensor

    def __init__(self) -> None:
        super().__init__()
        offset = torch.arange(KERNEL_SIZE, dtype=torch.float32) - KERNEL_SIZE // 2
        distance = (offset[:, None] ** 2 + offset[None, :] ** 2).sqrt()
        # A buffer: in the state dict as released, but no parameter that an optimizer could move.
        self.register_buffer("weight", (distance / distance.sum()).repeat(3, 1, 1, 1))  # (3, 1, 5, 5)

    def forward(self, image: Tensor) -> Tensor:
        return F.conv2d(image, self.weight.to(image.dtype), groups=3)  # (B, 3, H - 4, W - 4)


class LocalFeatures(nn.Module):
    """The location and colour features of the DensePose model."""

    def __init__(self) -> None:
        super().__init__()
        self.smooth_kernel = DistanceKernel()

    @torch.no_grad()
    def forward(self, image: Tensor, size: Sequence[int]) -> Tensor:
        """(B, 3, H, W) normalised image -> (B, h, w, 5): y, x, and three colours in [-1, 1].

        Colour: filtered without padding, resized, less its mean over the image, divided by the maximum of its absolute
        value over the image. Unlike the release, an image of one colour gives zeros instead of NaN, and an image
        under five pixels wide or high is extended by its border.
        """
        with torch.autocast(image.device.type, enabled=False):
            image = image.float()
            right, below = (max(0, KERNEL_SIZE - n) for n in (image.shape[-1], image.shape[-2]))
            if right or below:
                image = F.pad(image, (0, right, 0, below), mode="replicate")
            colour = resize(self.smooth_kernel(image), size)  # (B, 3, h, w)
            colour = colour - colour.mean((2, 3), keepdim=True)
            colour = colour / colour.abs().amax((2, 3), keepdim=True).clamp(min=1e-6)
            location = location_of(image, size)
            return torch.cat([location, colour.permute(0, 2, 3, 1)], dim=-1)
