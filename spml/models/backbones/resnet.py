"""Residual backbones of stride 8: the released ResNet-101 and -50, whose stem has three convolutions."""

from collections.abc import Sequence
from functools import partial
from typing import ClassVar

from torch import Tensor, nn

from spml.models.backbones.base import Backbone, Encoder, Options, chosen_levels, fixed_stride
from spml.models.layers import convolution, initialise

RELEASED_BN_MOMENTUM = 3e-4  # trained statistics hardly move
CHANNELS, STRIDES = (256, 512, 1024, 2048), (4, 8, 8, 8)


def projection(in_channels: int, out_channels: int, stride: int, momentum: float) -> nn.Sequential | None:
    """The 1x1 shortcut of a block whose input and output differ in width or size; None where they agree."""
    if stride == 1 and in_channels == out_channels:
        return None
    return nn.Sequential(
        convolution(in_channels, out_channels, kernel=1, stride=stride),
        nn.BatchNorm2d(out_channels, momentum=momentum),
    )


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 with a shortcut; the stride sits on the 3x3."""

    expansion = 4

    def __init__(self, in_channels: int, width: int, stride: int, dilation: int, momentum: float) -> None:
        super().__init__()
        out_channels = width * self.expansion
        self.conv1 = convolution(in_channels, width, kernel=1)
        self.bn1 = nn.BatchNorm2d(width, momentum=momentum)
        self.conv2 = convolution(width, width, stride=stride, dilation=dilation)
        self.bn2 = nn.BatchNorm2d(width, momentum=momentum)
        self.conv3 = convolution(width, out_channels, kernel=1)
        self.bn3 = nn.BatchNorm2d(out_channels, momentum=momentum)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = projection(in_channels, out_channels, stride, momentum)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        return self.relu(self.bn3(self.conv3(x)) + shortcut)


class BasicBlock(nn.Module):
    """Two 3x3 with a shortcut: for the few channels of the tiny network cheaper to train than a bottleneck."""

    expansion = 1

    def __init__(self, in_channels: int, width: int, stride: int, dilation: int, momentum: float) -> None:
        super().__init__()
        self.conv1 = convolution(in_channels, width, stride=stride, dilation=dilation)
        self.bn1 = nn.BatchNorm2d(width, momentum=momentum)
        self.conv2 = convolution(width, width, dilation=dilation)
        self.bn2 = nn.BatchNorm2d(width, momentum=momentum)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = projection(in_channels, width, stride, momentum)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(x)) + shortcut)


class Stem(nn.Module):
    """3x3 convolutions, the first of stride 2, with BN and ReLU after each, then a 3x3 max-pool of stride 2."""

    def __init__(self, widths: Sequence[int], momentum: float) -> None:
        super().__init__()
        layers: list[nn.Module] = [convolution(3, widths[0], stride=2)]
        for before, after in zip(widths[:-1], widths[1:], strict=True):
            layers += [nn.BatchNorm2d(before, momentum=momentum), nn.ReLU(inplace=True), convolution(before, after)]
        self.conv1 = nn.Sequential(*layers)
        self.bn1 = nn.BatchNorm2d(widths[-1], momentum=momentum)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.maxpool(self.relu(self.bn1(self.conv1(x))))  # (B, C, H / 4, W / 4)


class ResNet(Encoder):
    """A stem, then the stages `res2`, `res3`, ..., whose outputs are the levels.

    Args:
        block: Bottleneck or BasicBlock.
        stem_widths: output channels of the stem's convolutions.
        depths, widths, strides, dilations: one number a stage. The first block of a stage has the dilation of the
            previous stage, as in the release.
        momentum: of every batch norm.
        levels: the stages whose maps are asked for, from 0; none: all.
    """

    key: ClassVar[str] = "resnet_backbone"

    def __init__(
        self,
        block: type[Bottleneck] | type[BasicBlock],
        stem_widths: Sequence[int],
        depths: Sequence[int],
        widths: Sequence[int],
        strides: Sequence[int],
        dilations: Sequence[int],
        momentum: float,
        levels: Sequence[int] = (),
    ) -> None:
        self.levels = tuple(levels) or tuple(range(len(depths)))
        total = [4]
        for stride in strides:
            total.append(total[-1] * stride)
        super().__init__([widths[i] * block.expansion for i in self.levels], [total[i + 1] for i in self.levels])
        self.stem = ("conv1.", "res2.")
        self.conv1 = Stem(stem_widths, momentum)
        channels, dilation_before = stem_widths[-1], 1
        self.stage_names: list[str] = []
        for number, (depth, width, stride, dilation) in enumerate(zip(depths, widths, strides, dilations, strict=True)):
            blocks: list[nn.Module] = []
            for index in range(depth):
                first = index == 0
                blocks.append(
                    block(channels, width, stride if first else 1, dilation_before if first else dilation, momentum)
                )
                channels = width * block.expansion
            self.stage_names.append(f"res{number + 2}")
            self.add_module(self.stage_names[-1], nn.Sequential(*blocks))
            dilation_before = dilation
        initialise(self)

    def maps(self, image: Tensor) -> list[Tensor]:
        """The outputs of the chosen stages."""
        x, found = self.conv1(image), []  # (B, C, H / 4, W / 4)
        for name in self.stage_names:
            x = self.get_submodule(name)(x)
            found.append(x)
        return [found[level] for level in self.levels]


def resnet(options: Options, depths: Sequence[int]) -> ResNet:
    """The released backbone: depths (3, 4, 23, 3) for ResNet-101, (3, 4, 6, 3) for ResNet-50."""
    fixed_stride(options, STRIDES[-1], "this ResNet")
    momentum = RELEASED_BN_MOMENTUM if options.bn_momentum is None else options.bn_momentum
    levels = chosen_levels(options, len(depths), last=True)
    widths = [width // Bottleneck.expansion for width in CHANNELS]
    return ResNet(Bottleneck, (64, 64, 128), depths, widths, (1, 2, 1, 1), (1, 1, 2, 4), momentum, levels)


def entry(number: int, depths: Sequence[int], head: str, whose: str) -> Backbone:
    """The entry of a released network."""
    return Backbone(
        help=f"ResNet-{number} of stride 8, with {whose} head as released",
        build=partial(resnet, depths=depths),
        channels=CHANNELS,
        strides=STRIDES,
        head=head,
        weights="the release's ImageNet file (resnet-101-cuhk.pth) or a snapshot, as network.pretrained",
    )


DEEPLAB_101 = entry(101, (3, 4, 23, 3), "aspp", "DeepLab's")
DEEPLAB_50 = entry(50, (3, 4, 6, 3), "aspp", "DeepLab's")
PSPNET_101 = entry(101, (3, 4, 23, 3), "psp", "PSPNet's")
PSPNET_50 = entry(50, (3, 4, 6, 3), "psp", "PSPNet's")
