"""SegNet's decoder (Badrinarayanan et al., 2017): puts every maximum back where the encoder's pool found it."""

from collections.abc import Sequence

from torch import Tensor, nn

from spml.errors import UserError
from spml.models.backbones.base import Encoder
from spml.models.backbones.segnet import STRIDES, PooledMaps, PoolingEncoder
from spml.models.heads.base import Head
from spml.models.layers import convolution, initialise, normalised

STRIDE = 4  # of the embedding; the published network goes on to 1


class Unpooling(nn.Module):
    """From the deepest map to stride 4: undo the pool, then two 3x3 convolutions. Last, 1x1 to the embedding."""

    def __init__(self, channels: Sequence[int], strides: Sequence[int], dim: int) -> None:
        super().__init__()
        self.levels = [level for level, stride in enumerate(strides) if stride > STRIDE][::-1]  # deepest first
        self.blocks = nn.ModuleList(
            nn.Sequential(
                normalised(channels[level], channels[level]),
                normalised(channels[level], channels[level - 1]),
            )
            for level in self.levels
        )
        self.embed = convolution(channels[self.levels[-1] - 1], dim, kernel=1, bias=True)
        initialise(self)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """`PooledMaps` -> (B, D, h, w) at stride 4."""
        if not isinstance(maps, PooledMaps):
            raise TypeError(f"maps: expected PooledMaps, got {type(maps).__name__}")
        x = maps[-1]
        for level, block in zip(self.levels, self.blocks, strict=True):
            size = maps[level - 1].shape[-2:]  # what was pooled has the size of the level before
            x = block(unpool(x, maps.indices[level], size))
        return self.embed(x)


def unpool(x: Tensor, index: Tensor, size: Sequence[int]) -> Tensor:
    """Put each value where its maximum was, and zero elsewhere: (B, C, h, w) -> (B, C, *size).

    It uses a scatter, which has a gradient on every device and allows windows cut at the border.
    """
    flat = x.new_zeros((*x.shape[:2], int(size[0]) * int(size[1])))
    return flat.scatter(2, index.flatten(2), x.flatten(2)).view(*x.shape[:2], int(size[0]), int(size[1]))


def build(encoder: Encoder, dim: int, width: int) -> Unpooling:
    """SegNet's decoder for SegNet's encoder."""
    if not isinstance(encoder, PoolingEncoder) or encoder.strides != STRIDES:
        raise UserError(
            "network.head: segnet undoes max-pools by their indices, which network.backbone_types segnet alone gives "
            "(with all network.levels)"
        )
    return Unpooling(encoder.channels, encoder.strides, dim)


SEGNET = Head("SegNet: unpooling by the encoder's indices (backbone segnet)", build, lambda _: STRIDE)
