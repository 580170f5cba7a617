"""A residual backbone that two CPU cores train in minutes from random weights."""

from spml.models.backbones.base import Backbone, Options, chosen_levels, fixed_stride
from spml.models.backbones.resnet import BasicBlock, ResNet

CHANNELS, STRIDES = (64, 128, 192), (4, 8, 8)
SCRATCH_BN_MOMENTUM = 0.1


def tiny(options: Options) -> ResNet:
    """1.2 M parameters with a head of 64."""
    fixed_stride(options, STRIDES[-1], "the tiny network")
    momentum = SCRATCH_BN_MOMENTUM if options.bn_momentum is None else options.bn_momentum
    levels = chosen_levels(options, len(CHANNELS), last=True)
    return ResNet(BasicBlock, (24, 32), (1, 1, 1), CHANNELS, (1, 2, 1), (1, 1, 2), momentum, levels)


TINY = Backbone(
    help="small residual network of stride 8 for the CPU, trained from scratch",
    build=tiny,
    channels=CHANNELS,
    strides=STRIDES,
    head="aspp_small",
    weights="none: it starts at random, or from a snapshot as network.pretrained",
)
