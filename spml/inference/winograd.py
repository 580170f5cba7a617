"""3x3 convolutions by Winograd's F(4 x 4, 3 x 3): a quarter of the multiplications, in float32.

Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2016, section 4.3. A tile of 4 x 4 results needs
6 x 6 inputs d. With B, G, A of the six points 0, 1, -1, 2, -2 and infinity, the tile is

    A^T ((G g G^T) * (B^T d B)) A        for a filter g, * element by element

so that over channels each of the 36 elements is one product of matrices, (tiles, in) x (in, out): 36 multiplications
for 16 results instead of 144. A dilated convolution is the same on each of its dilation^2 interleaved grids. Results
differ from the direct way by at most some 5e-5 of their deviation, as the sums round elsewhere.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SIDE, RESULT = 6, 4  # of a tile: inputs, results
TILES = 512  # worked on at a time, so that they stay in the cache
LEAST_CHANNELS, LEAST_TILES = 128, 64  # below it, the transforms cost more than they save

INPUT = (  # B^T
    *((4, 0, -5, 0, 1, 0), (0, -4, -4, 1, 1, 0), (0, 4, -4, -1, 1, 0)),
    *((0, -2, -1, 2, 1, 0), (0, 2, -1, -2, 1, 0), (0, 4, 0, -5, 0, 1)),
)
FILTER = (  # G
    *((1 / 4, 0, 0), (-1 / 6, -1 / 6, -1 / 6), (-1 / 6, 1 / 6, -1 / 6)),
    *((1 / 24, 1 / 12, 1 / 6), (1 / 24, -1 / 12, 1 / 6), (0, 0, 1)),
)
OUTPUT = ((1, 1, 1, 1, 1, 0), (0, 1, -1, 2, -2, 0), (0, 1, 1, 4, 4, 0), (0, 1, -1, 8, -8, 1))  # A^T


def fits(convolution: nn.Conv2d) -> bool:
    """Whether a convolution is 3x3 of stride 1 that keeps the size, with enough channels."""
    return (
        convolution.kernel_size == (3, 3)
        and convolution.stride == (1, 1)
        and convolution.groups == 1
        and convolution.padding_mode == "zeros"
        and convolution.dilation[0] == convolution.dilation[1]
        and convolution.padding == convolution.dilation
        and min(convolution.in_channels, convolution.out_channels) >= LEAST_CHANNELS
    )


def pays(height: int, width: int, dilation: int) -> bool:
    """Whether maps of (H, W) fill enough of the tiles of the interleaved grids."""
    down, across = (-(-side // (dilation * RESULT)) for side in (height, width))
    tiles = down * across * dilation**2
    return tiles >= LEAST_TILES and height * width >= 0.6 * tiles * RESULT**2


class Winograd(nn.Module):
    """The convolution with a weight (O, C, 3, 3) and a bias (O,) or none, of stride 1, padded to keep the size.

    Args:
        relu: follow it by ReLU.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, dilation: int, relu: bool) -> None:
        super().__init__()
        first = torch.tensor(FILTER, dtype=torch.float64)
        points = torch.einsum("ai,bj,ocij->abco", first, first, weight.double())
        self.weight = points.flatten(0, 1).float().contiguous()  # (36, C, O)
        one, other = torch.tensor(INPUT, dtype=torch.float32), torch.tensor(OUTPUT, dtype=torch.float32)
        self.input, self.output = torch.kron(one, one), torch.kron(other, other)  # (36, 36), (16, 36)
        self.bias, self.dilation, self.relu = bias, dilation, relu

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) float32, channels last -> (B, O, H, W) alike."""
        d, (count, _, height, width), channels = self.dilation, x.shape, self.weight.shape[2]
        down, across = (-(-side // (d * RESULT)) for side in (height, width))  # tiles of a grid
        rows, columns = (RESULT * tiles * d for tiles in (down, across))
        # One cell of the grid before the first tile, one behind the last.
        padded = F.pad(x.permute(0, 2, 3, 1), (0, 0, d, d + columns - width, d, d + rows - height))
        out = x.new_empty((count, rows, columns, channels))
        strip = max(1, TILES // (across * d * d))  # rows of tiles
        for image in range(count):
            for top in range(0, down, strip):
                end = min(top + strip, down)
                place = slice(RESULT * d * top, RESULT * d * end)
                self._strip(padded[image], top, out[image, place], end - top, across)
        return out[:, :height, :width].contiguous().permute(0, 3, 1, 2)

    def _strip(self, padded: Tensor, top: int, out: Tensor, down: int, across: int) -> None:
        """Some rows of tiles, from row `top` of tiles on, into out (down * 4 * d, across * 4 * d, O)."""
        d, (_, channels, results) = self.dilation, self.weight.shape
        row, column, _ = padded.stride()
        size = (SIDE, SIDE, d, d, down, across, channels)  # place in the tile, grid, tile
        stride = (row * d, column * d, row, column, RESULT * d * row, RESULT * d * column, 1)
        start = padded.storage_offset() + RESULT * d * top * row
        tile = padded.as_strided(size, stride, start).reshape(SIDE**2, -1)  # (36, tiles x C)
        product = torch.bmm((self.input @ tile).view(SIDE**2, -1, channels), self.weight)  # (36, tiles, O)
        values = (self.output @ product.flatten(1)).view(RESULT, RESULT, d, d, down, across, results)
        target = out.view(down, RESULT, d, across, RESULT, d, results)
        values = values.permute(4, 0, 2, 5, 1, 3, 6)
        if self.bias is None:
            target.copy_(values)
        else:
            torch.add(values, self.bias, out=target)
        if self.relu:
            out.relu_()
