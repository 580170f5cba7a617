"""The tree energy loss: an unlabelled pixel should agree with its neighbours in two trees (Liang et al., CVPR 2022).

`Tree Energy Loss: Towards Sparsely Annotated Semantic Segmentation`, section 3.
"""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from spml.config.kinds import number
from spml.config.settings import setting
from spml.losses.base import Inputs, Loss
from spml.losses.maps import Maps, directions, mean
from spml.losses.tree_filter import Tree, tree_filter


def tree_energy(
    probability: Tensor, rgb: Tensor, embedding: Tensor, valid: Tensor, unlabelled: Tensor, sigma: float = 0.02
) -> Tensor:
    """Sum |P - Y|_1 over the unlabelled pixels of each image, Y = filter_high(filter_low(P)).

    Each filter (`tree_filter`) runs along a minimum spanning tree of the 4-connected grid; the affinity of an edge is
    exp(-d / sigma) in colours and exp(-d) in the embedding, d the squared distance. As in the authors' code, the
    gradient of Y reaches P, and reaches the embedding through the affinities of its tree.

    Args:
        probability: (B, K, h, w) float, P.
        rgb: (B, 3, h, w) float in 0..255; divided by 255 here.
        embedding: (B, D, h, w) float.
        valid: (B, h, w) bool; nothing passes along the edges of other pixels (padding, void).
        unlabelled: (B, h, w) bool; of these pixels the valid ones count.
        sigma: of the colours, above 0.

    Returns:
        (B,) of the type of `probability`; each pixel adds between 0 and 2.
    """
    colour = (rgb / 255).to(probability.dtype)
    answer = probability
    for feature, range_ in ((colour, sigma), (embedding, 1.0)):
        tree = Tree.of(feature, valid)
        answer = tree_filter(answer, tree, tree.affinity(feature, range_))
    distance = (probability - answer).abs().sum(1)  # (B, h, w)
    return distance.masked_fill(~(unlabelled & valid), 0).sum((1, 2))


@dataclass(frozen=True)
class TreeEnergySettings:
    """The released recipe for PASCAL VOC; the recipe for Cityscapes has sigma 0.002."""

    weight: float = setting(0.4, number(low=0), "of this loss")
    sigma: float = setting(0.02, number(above=0), "of squared differences of colours in 0..1, summed over channels")


def function(inputs: Inputs, settings: TreeEnergySettings) -> Tensor:
    """`tree_energy` for each unlabelled pixel, at the logits' size: the sum over all processes divided by their number.

    A cell of the map counts as labelled if it holds a labelled pixel. Embeddings have the length sqrt(D), see
    `directions`.
    """
    logit, label = inputs.logit, inputs.label
    size = logit.shape[-2], logit.shape[-1]
    maps = Maps.of(inputs, size)
    labelled = ((label >= 0) & (label < logit.shape[1])).float()
    unlabelled = (F.adaptive_max_pool2d(labelled[:, None], size) == 0).squeeze(1) & maps.valid
    embedding = directions(inputs.embedding)
    if embedding.shape[-2:] != logit.shape[-2:]:
        embedding = F.interpolate(embedding, size, mode="bilinear", align_corners=False)
    energy = tree_energy(maps.probability, maps.rgb, embedding, maps.valid, unlabelled, settings.sigma)
    return mean(energy, unlabelled.sum(), inputs)


LOSS = Loss(
    help="unlabelled pixels agree with their neighbours in trees of like colour and like embedding",
    settings=TreeEnergySettings,
    inputs=("logit", "embedding", "label", "rgb", "valid"),
    function=function,
)
