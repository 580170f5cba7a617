"""The Potts model of a Markov random field on the grid, relaxed to probabilities: neighbours agree except at edges."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from spml.config.kinds import Kind, number
from spml.config.settings import setting
from spml.losses.base import Inputs, Loss
from spml.losses.maps import Maps, mean, scaled
from spml.losses.quadratic import quadratic
from spml.propagate.pairs import NEIGHBOURS, Offset, pair


def neighbour(probability: Tensor, rgb: Tensor, valid: Tensor, sigma: float, neighbours: int = 8) -> Tensor:
    """Sum w_pq |S_p - S_q|^2 over the pairs of neighbours of each image, w_pq = exp(-|I_p - I_q|^2 / 2 sigma^2).

    Each pair counts once, diagonal ones like the others.

    Args:
        probability: (B, K, h, w) float, S.
        rgb: (B, 3, h, w) float in 0..255, I.
        valid: (B, h, w) bool; a pair with another pixel (padding, void) adds nothing.
        sigma: difference in grey values that makes an edge, above 0.
        neighbours: 4 or 8.

    Returns:
        (B,) of the type of `probability`, 0 or more.

    Raises:
        ValueError: another number of neighbours.
    """
    if neighbours not in NEIGHBOURS:
        raise ValueError(f"neighbours: expected 4 or 8, got {neighbours}")
    weights = {offset: _weight(rgb, valid, sigma, offset).to(probability.dtype) for offset in NEIGHBOURS[neighbours]}

    def laplacian(values: Tensor) -> Tensor:
        """sum_q w_pq (S_p - S_q) at each pixel p."""
        result = torch.zeros_like(values)
        for offset, weight in weights.items():
            first, second = pair(values, offset)
            flow = weight * (first - second)
            ahead, back = pair(result, offset)
            ahead += flow
            back -= flow
        return result

    return quadratic(probability, laplacian).sum(1)


@torch.no_grad()
def _weight(rgb: Tensor, valid: Tensor, sigma: float, offset: Offset) -> Tensor:
    """w_pq of the pairs at `offset`, zero where either pixel is not valid: (B, 1, h', w')."""
    first, second = pair(rgb, offset)
    both = torch.logical_and(*pair(valid[:, None], offset))
    return (-(first - second).square().sum(1, keepdim=True) / (2 * sigma**2)).exp() * both


def _read_neighbours(value: Any) -> int:
    if isinstance(value, bool) or float(value) not in NEIGHBOURS:
        raise ValueError("neither")
    return int(float(value))


@dataclass(frozen=True)
class NeighbourSettings:
    """The literature gives the formula without numbers; these are round ones that we have not tuned."""

    weight: float = setting(1.0, number(low=0), "of this loss")
    sigma: float = setting(15.0, number(above=0), "difference in grey values that makes an edge")
    neighbours: int = setting(8, Kind("4 or 8", _read_neighbours), "pixels that a pixel is compared with: 4 or 8")
    scale: float = setting(0.5, number(above=0), "size of the maps, as a part of the crop")


def function(inputs: Inputs, settings: NeighbourSettings) -> Tensor:
    """`neighbour` for each valid pixel of the maps: the sum over all processes divided by their number."""
    maps = Maps.of(inputs, scaled(inputs, settings.scale))
    energy = neighbour(maps.probability, maps.rgb, maps.valid, settings.sigma, settings.neighbours)
    return mean(energy, maps.valid.sum(), inputs)


LOSS = Loss(
    help="neighbouring pixels of like colour have one class (Potts model of 4 or 8 neighbours)",
    settings=NeighbourSettings,
    inputs=("logit", "rgb", "valid"),
    function=function,
)
