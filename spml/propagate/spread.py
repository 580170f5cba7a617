"""Labels that spread at once from strokes by frozen features: a ridge regression in closed form, then a short walk.

The cells under the strokes are the examples, one-hot classes the targets. What an image's strokes say is a sum over its
examples, class by class, so that images are added and taken away without a second look at them. The scores of the
regression then walk over the cells of the image, where neighbours alike in features and colour hold fast to each other.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from spml.propagate.pairs import NEIGHBOURS, pair

OWN_SHARE = 0.6  # weight of an image's own examples where there are others' as well
PENALTY = 0.003  # of the squared weights of the regression, beside a mean over the examples
ANCHOR = 0.002  # how fast a cell holds to its own score, beside 1 for a neighbour that looks the same
FEATURE_FALL, COLOUR_FALL = 30.0, 1000.0  # of the hold of neighbours with 1 - cosine and with the squared RGB distance
CELLS = 24  # rows and columns of the cells that keep a model's scores where they are
STEPS = 30  # of conjugate gradients
SHARPNESS = 10.0  # of the softmax that makes probabilities of scores between 0 and 1
OFFSETS = NEIGHBOURS[8]

Evidence = Mapping[int, Tensor]  # class -> (D + 1, D + 1): the sum of [x, 1] [x, 1]' over its examples


@dataclass(frozen=True)
class Field:
    """The features of one image on a grid of (h, w) cells, level by level, as a network gave them.

    Everything here is linear in the features, so that no level is ever brought to the size of the grid: examples are
    read at their cells, and the scores of each level are resized in place of its channels.
    """

    levels: tuple[Tensor, ...]  # (C_l, h_l, w_l) float, maps over the whole image
    whole: Tensor  # (G,) float: what the whole image shows, the same in each of its cells
    hold: Tensor  # (4, h, w) float in 0..1: of each cell on its neighbours at OFFSETS, 0 beyond the border

    @property
    def size(self) -> tuple[int, int]:
        """(h, w)."""
        return int(self.hold.shape[1]), int(self.hold.shape[2])

    @property
    def channels(self) -> int:
        """D: of all levels and the whole."""
        return sum(len(level) for level in self.levels) + len(self.whole)

    def at(self, cell: Tensor) -> Tensor:
        """The features (n, D) float32 of cells (n,) int64 in [0, h w), interpolated bilinearly."""
        height, width = self.size
        y, x = (2 * (cell // width) + 1) / height - 1, (2 * (cell % width) + 1) / width - 1
        place = torch.stack([x, y], dim=1).float()[None, None]  # (1, 1, n, 2)
        read = [
            F.grid_sample(level[None].float(), place, padding_mode="border", align_corners=False)[0, :, 0].T
            for level in self.levels
        ]
        return torch.cat([*read, self.whole.float().expand(len(cell), -1)], dim=1)

    def score(self, weight: Tensor) -> Tensor:
        """(k, h, w) float32: the product of every cell's [features, 1] with `weight` (D + 1, k)."""
        total = torch.zeros(weight.shape[1], *self.size, device=weight.device)
        start = 0
        for level in self.levels:
            rows = weight[start : start + len(level)]
            part = torch.einsum("chw,ck->khw", level.float(), rows)
            total += F.interpolate(part[None], self.size, mode="bilinear", align_corners=False)[0]
            start += len(level)
        constant = self.whole.float() @ weight[start:-1] + weight[-1]  # (k,)
        return total + constant[:, None, None]


def neighbour_hold(feature: Tensor, colour: Tensor) -> Tensor:
    """How fast cells hold to their neighbours: exp(-FEATURE_FALL (1 - cos)) exp(-COLOUR_FALL |rgb - rgb'|^2 / 2).

    Neighbours are at OFFSETS; diagonal ones count 1 / sqrt(2) of it.

    Args:
        feature: (D, h, w) float, of any length.
        colour: (3, h, w) float in 0..1.

    Returns:
        (4, h, w) float32, 0 where the neighbour lies beyond the border.
    """
    unit, (height, width) = F.normalize(feature.float(), dim=0), feature.shape[1:]
    hold = torch.zeros(len(OFFSETS), height, width, device=feature.device)
    for plane, offset in zip(hold, OFFSETS, strict=True):
        here, there = pair(unit, offset)
        cosine = (here * there).sum(0)
        here, there = pair(colour, offset)
        distance = (here - there).square().sum(0)
        length = (offset[0] ** 2 + offset[1] ** 2) ** 0.5
        inside, _ = pair(plane, offset)
        inside.copy_(torch.exp(-FEATURE_FALL * (1 - cosine) - COLOUR_FALL / 2 * distance) / length)
    return hold


def stroke_cells(stroke: Tensor, size: tuple[int, int], limit: int = 254) -> tuple[Tensor, Tensor]:
    """The cells of a grid that strokes touch, and the most frequent class in each, of equally frequent ones the first.

    Args:
        stroke: (H, W) integers: class ids below `limit`; every other value, such as 254 and 255, says nothing.
        size: (h, w) of the grid.

    Returns:
        cell (n,) int64 in [0, h w), growing, and label (n,) int64.
    """
    height, width = stroke.shape
    said = (stroke < limit).nonzero()  # (m, 2)
    cell = (said[:, 0] * size[0] // height) * size[1] + said[:, 1] * size[1] // width
    label = stroke[said[:, 0], said[:, 1]].long()
    pair, count = torch.unique(cell * limit + label, return_counts=True)  # growing: the cells stand together
    cell, label = pair // limit, pair % limit
    touched, index = torch.unique(cell, return_inverse=True)
    most = torch.zeros(len(touched), dtype=count.dtype, device=count.device).scatter_reduce_(0, index, count, "amax")
    winner = (count == most[index]).nonzero().squeeze(1)
    first = torch.full_like(touched, len(cell)).scatter_reduce_(0, index[winner], winner, "amin")
    return touched, label[first]


def thin(cell: Tensor, label: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """At most `most` cells of each class, spread evenly over those there are: (n,) and (n,) -> (m,) and (m,)."""
    kept = []
    for key in torch.unique(label):
        places = (label == key).nonzero().squeeze(1)
        step = torch.linspace(0, len(places) - 1, min(most, len(places)), device=places.device).round().long()
        kept.append(places[step])
    chosen = torch.cat(kept).sort()[0] if kept else cell[:0]
    return cell[chosen], label[chosen]


def gather(feature: Tensor, label: Tensor) -> dict[int, Tensor]:
    """What the examples of one image say; all of them weigh one, however many they are.

    Args:
        feature: (n, D) float.
        label: (n,) int64, a class each.

    Returns:
        Evidence: of each class that occurs, (D + 1, D + 1) float32.
    """
    row = _with_one(feature)
    return {int(k): row[label == k].T @ row[label == k] / len(label) for k in torch.unique(label)}


def add(total: Evidence, more: Evidence, weight: float = 1.0) -> dict[int, Tensor]:
    """The evidence of both; with `weight` -1 the second is taken away again."""
    found = dict(total)
    for key, product in more.items():
        found[key] = found[key] + weight * product if key in found else weight * product
    return found


def fit(own: Evidence, others: Evidence) -> tuple[list[int], Tensor]:
    """Weights of the ridge regression from features to one-hot classes.

    Minimises mean |W' [x, 1] - onehot|^2 + PENALTY |W|^2, the constant free. The mean goes over the image's own
    examples with OWN_SHARE of the weight, and over the others' with the rest, where each class weighs the same: strokes
    on the background are many, and the cow of another image must not drown in them.

    Returns:
        The classes, growing, and weight (D + 1, k) float32.

    Raises:
        ValueError: no example at all.
    """
    classes = sorted({*own, *others})
    if not classes:
        raise ValueError("expected at least one example, got none")
    own_share = OWN_SHARE if own and others else float(bool(own))
    examples = sum(float(product[-1, -1]) for product in own.values())
    parts = [(key, product, own_share / examples) for key, product in own.items()]
    parts += [(key, row, (1 - own_share) / len(others) / float(row[-1, -1])) for key, row in others.items()]
    total = torch.zeros_like(parts[0][1])
    target = total.new_zeros(len(total), len(classes))
    for key, product, scale in parts:
        total.add_(product, alpha=scale)
        target[:, classes.index(key)].add_(product[:, -1], alpha=scale)
    total.diagonal()[:-1] += PENALTY
    total.diagonal()[-1] += 1e-6  # so that rounding leaves it positive definite
    return classes, torch.cholesky_solve(target, torch.linalg.cholesky(total))


def correct(field: Field, score: Tensor, feature: Tensor, cell: Tensor, label: Tensor) -> Tensor:
    """The scores of a model, changed as far as strokes speak against them.

    A ridge regression learns from the features what the strokes say beyond the scores s. It minimises
    OWN_SHARE mean |W' [x, 1] - (onehot - s)|^2 over the cells under strokes, plus the rest of the weight times
    mean |W' [x, 1]|^2 over cells of the whole image, plus PENALTY |W|^2: what looks like the cells under the strokes
    follows them, the rest of the image stays as the model has it.

    Args:
        field: features of the image.
        score: (k, h, w) float in 0..1, of the classes 0..k-1 on the grid of the field.
        feature: (n, D) float, of the cells under strokes. Without any, the scores stay.
        cell: (n,) int64 in [0, h w), these cells.
        label: (n,) int64 below k.

    Returns:
        (k, h, w) float32.
    """
    if not len(cell):
        return score.float()
    width = field.size[1]
    y, x = (torch.linspace(0, side - 1, min(side, CELLS), device=cell.device).round().long() for side in field.size)
    own, rest = _with_one(feature), _with_one(field.at((y[:, None] * width + x).flatten()))
    wanted = F.one_hot(label, len(score)).float() - score.float().flatten(1)[:, cell].T  # (n, k)
    total = own.T @ own * (OWN_SHARE / len(own)) + rest.T @ rest * ((1 - OWN_SHARE) / len(rest))
    total.diagonal()[:-1] += PENALTY
    total.diagonal()[-1] += 1e-6
    target = own.T @ wanted * (OWN_SHARE / len(own))
    return score.float() + field.score(torch.cholesky_solve(target, torch.linalg.cholesky(total)))


def _with_one(feature: Tensor) -> Tensor:
    """(n, D) -> (n, D + 1) float32."""
    return torch.cat([feature.float(), feature.new_ones(len(feature), 1).float()], dim=1)


def walk(score: Tensor, hold: Tensor, steps: int = STEPS, anchor: float = ANCHOR) -> Tensor:
    """Scores after a random walk that goes to neighbours that look alike and ends at a cell's own score.

    The minimum of anchor sum_i |x_i - s_i|^2 + sum_ij hold_ij |x_i - x_j|^2, by conjugate gradients (the walk with
    priors of Grady, 2005): the expected score where a walker from i, who stops at each cell with odds anchor : hold,
    has stopped.

    Args:
        score: (k, h, w) float.
        hold: (4, h, w) float >= 0, as `neighbour_hold` returns it.
        steps: at least 0; 0 returns the scores.

    Returns:
        (k, h, w) float32.
    """
    score, (height, width) = score.float(), score.shape[1:]
    holds = {offset: pair(plane, offset)[0] for offset, plane in zip(OFFSETS, hold.float(), strict=True)}
    diagonal = torch.full((height, width), anchor, device=score.device)
    for offset, weight in holds.items():
        for end in pair(diagonal, offset):
            end += weight

    def apply(x: Tensor) -> Tensor:
        result = diagonal * x
        for offset, weight in holds.items():
            (here, there), (first, second) = pair(x, offset), pair(result, offset)
            first -= weight * there
            second -= weight * here
        return result

    x = score.clone()
    rest = anchor * score - apply(x)
    ahead = rest / diagonal
    direction, size = ahead, (rest * ahead).sum((1, 2), keepdim=True)
    for _ in range(steps):
        image = apply(direction)
        length = size / (direction * image).sum((1, 2), keepdim=True).clamp(min=1e-20)
        x.add_(length * direction)
        rest = rest - length * image
        ahead = rest / diagonal
        before, size = size, (rest * ahead).sum((1, 2), keepdim=True)
        direction = ahead + size / before.clamp(min=1e-20) * direction
    return x


def probabilities(score: Tensor) -> Tensor:
    """(k, h, w) scores between about 0 and 1 as probabilities, which sum to one over k."""
    return (SHARPNESS * score).softmax(0)
