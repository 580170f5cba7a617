"""SegNet's encoder (Badrinarayanan et al., 2017), small: its max-pools remember where each maximum stood."""

import torch.nn.functional as F
from torch import Tensor, nn

from spml.models.backbones.base import Backbone, Encoder, Options, chosen_levels, fixed_stride
from spml.models.layers import initialise, normalised

CHANNELS, STRIDES = (32, 64, 128, 192), (2, 4, 8, 16)
DEPTHS = (1, 2, 2, 2)  # convolutions a stage; SegNet has 2 to 3, and a fifth stage


class PooledMaps(list[Tensor]):
    """Maps, each the result of a 2x2 max-pool.

    `indices[i]`, int64 of the shape of map i, holds the flat index of each maximum in the map before the pool.
    """

    def __init__(self, maps: list[Tensor], indices: list[Tensor]) -> None:
        super().__init__(maps)
        self.indices = indices


class PoolingEncoder(Encoder):
    """Stages of 3x3 convolutions with batch norm and ReLU, each ending in a 2x2 max-pool; key `convolutions`."""

    def __init__(self, options: Options) -> None:
        fixed_stride(options, STRIDES[-1], "segnet")
        levels = chosen_levels(options, len(CHANNELS), last=True)
        super().__init__([CHANNELS[i] for i in levels], [STRIDES[i] for i in levels])
        self.levels = levels
        self.stem = ("convolutions.0.", "convolutions.1.")
        before, stages = 3, []
        for width, depth in zip(CHANNELS, DEPTHS, strict=True):
            stages.append(nn.Sequential(*(normalised(before if i == 0 else width, width) for i in range(depth))))
            before = width
        self.convolutions = nn.ModuleList(stages)
        initialise(self)
        self.set_momentum(options.bn_momentum)

    def maps(self, image: Tensor) -> list[Tensor]:
        """The chosen stages' maps, as `PooledMaps`."""
        x, maps, indices = image, [], []
        for stage in self.convolutions:
            # Odd sizes are rounded up: the last window is smaller.
            x, index = F.max_pool2d(stage(x), 2, ceil_mode=True, return_indices=True)
            maps.append(x)
            indices.append(index)
        return PooledMaps([maps[level] for level in self.levels], [indices[level] for level in self.levels])


SEGNET = Backbone(
    help="SegNet's encoder, small, trained from scratch: the only one whose pools can be undone by the head segnet",
    build=PoolingEncoder,
    channels=CHANNELS,
    strides=STRIDES,
    head="segnet",
    weights="none: it starts at random, or from a snapshot as network.pretrained",
)
