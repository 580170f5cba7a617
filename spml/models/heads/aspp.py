"""Atrous spatial pyramid pooling (DeepLab v2): parallel dilated convolutions, summed; the released head."""

from collections.abc import Sequence

from torch import Tensor, nn

from spml.models.backbones.base import Encoder
from spml.models.heads.base import Head, stride_of_last
from spml.models.layers import convolution, initialise

RELEASED, SMALL = (6, 12, 18, 24), (1, 3, 6)  # the small ones fit the 12 x 12 to 40 x 40 maps of small images


class AtrousPyramid(nn.Module):
    """Parallel 3x3 convolutions of growing dilation, summed; keys `aspp_1`, `aspp_2`, ...

    With `context`, the head adds a 1x1 convolution of the image's mean feature everywhere (key `context`): from
    scratch, dilated convolutions alone are slow to learn what the whole image is about. The release has no such path.
    """

    def __init__(self, in_channels: int, out_channels: int, dilations: Sequence[int], context: bool = False) -> None:
        super().__init__()
        self.branch_names = [f"aspp_{number}" for number in range(1, len(dilations) + 1)]
        for name, dilation in zip(self.branch_names, dilations, strict=True):
            branch = nn.Sequential(convolution(in_channels, out_channels, dilation=dilation, bias=True))
            self.add_module(name, branch)
        # The branches' bias serves the context, too. It has no batch norm, so a batch of one image can train it.
        self.context = convolution(in_channels, out_channels, kernel=1) if context else None
        initialise(self)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Sum the branches of the deepest map: (B, C, h, w) -> (B, D, h, w)."""
        x = maps[-1]
        out = self.get_submodule(self.branch_names[0])(x)
        for name in self.branch_names[1:]:
            out = out + self.get_submodule(name)(x)
        if self.context is not None:
            out = out + self.context(x.mean((2, 3), keepdim=True))
        return out  # (B, out_channels, h, w)


def released(encoder: Encoder, dim: int, width: int) -> AtrousPyramid:
    """The head of `panoptic_deeplab_101`."""
    return AtrousPyramid(encoder.channels[-1], dim, RELEASED)


def small(encoder: Encoder, dim: int, width: int) -> AtrousPyramid:
    """The head of `panoptic_deeplab_tiny`."""
    return AtrousPyramid(encoder.channels[-1], dim, SMALL, context=True)


ASPP = Head("DeepLab v2: four 3x3 convolutions of dilation 6 to 24, summed", released, stride_of_last, key="aspp")
ASPP_SMALL = Head(
    "the same for small images: dilations 1, 3 and 6, and the image's mean feature", small, stride_of_last, key="aspp"
)
