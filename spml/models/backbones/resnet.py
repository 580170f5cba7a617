"""Residual backbones of stride 8: the released ResNet-101 and -50 with a deep stem, and a tiny one for the CPU."""

from collections.abc import Sequence

from torch import Tensor, nn

RELEASED_BN_MOMENTUM = 3e-4
SCRATCH_BN_MOMENTUM = 0.1


def convolution(
    in_channels: int, out_channels: int, kernel: int = 3, stride: int = 1, dilation: int = 1, bias: bool = False
) -> nn.Conv2d:
    """An odd-sized convolution padded so that stride 1 keeps the size."""
    padding = dilation * (kernel // 2)
    return nn.Conv2d(in_channels, out_channels, kernel, stride, padding, dilation, bias=bias)


def initialise(module: nn.Module) -> None:
    """Fill every convolution with normal(0, sqrt(2 / (k * k * out))) and zero bias, every batch norm with 1 and 0."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            fan_out = layer.kernel_size[0] * layer.kernel_size[1] * layer.out_channels
            nn.init.normal_(layer.weight, 0.0, (2.0 / fan_out) ** 0.5)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.BatchNorm2d):
            nn.init.ones_(layer.weight)
            nn.init.zeros_(layer.bias)


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


class ResNet(nn.Module):
    """A stem and the stages `res2`, `res3`, ... in a row; `out_channels` wide at stride 8.

    Args:
        block: Bottleneck or BasicBlock.
        stem_widths: output channels of the stem's convolutions.
        depths, widths, strides, dilations: one number a stage. The first block of a stage still has the dilation of the
            stage before, as released.
        momentum: of every batch norm.
    """

    def __init__(
        self,
        block: type[Bottleneck] | type[BasicBlock],
        stem_widths: Sequence[int],
        depths: Sequence[int],
        widths: Sequence[int],
        strides: Sequence[int],
        dilations: Sequence[int],
        momentum: float,
    ) -> None:
        super().__init__()
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
        self.out_channels = channels
        self.stage_channels = [width * block.expansion for width in widths]
        initialise(self)

    def forward(self, image: Tensor) -> Tensor:
        x = self.conv1(image)  # (B, C, H / 4, W / 4)
        for name in self.stage_names:
            x = self.get_submodule(name)(x)
        return x  # (B, out_channels, H / 8, W / 8)

    def stages(self, image: Tensor) -> list[Tensor]:
        """What every stage makes of an image, in order; the last is what `forward` returns."""
        found = [self.conv1(image)]
        for name in self.stage_names:
            found.append(self.get_submodule(name)(found[-1]))
        return found[1:]


def resnet(depths: Sequence[int], momentum: float) -> ResNet:
    """The released backbone: depths (3, 4, 23, 3) for ResNet-101, (3, 4, 6, 3) for ResNet-50."""
    return ResNet(Bottleneck, (64, 64, 128), depths, (64, 128, 256, 512), (1, 2, 1, 1), (1, 1, 2, 4), momentum)


def tiny_resnet(momentum: float) -> ResNet:
    """1.2 M parameters with a head of 64; two CPU cores train it in minutes."""
    return ResNet(BasicBlock, (24, 32), (1, 1, 1), (64, 128, 192), (1, 2, 1), (1, 1, 2), momentum)
