"""k-means that skips pixels which cannot change, by bounds: a trial, slower than the plain rounds at our sizes.

A pixel is a unit vector, so its similarity to a centre changes by no more than the distance that the centre moves. From
the round in which a pixel was last compared with all centres we know its largest similarity and bound the others from
above: by one number a pixel (Hamerly, 2010) or by one a pixel and centre (Elkan, 2003). Where the two cannot have
crossed, the pixel stays. The sums are those of the plain rounds, so the assignments are equal.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

SLACK = 1e-6  # for rounding
LOW = -2.0  # below every similarity


def bounded_kmeans(
    feature: Tensor, label: Tensor, num_clusters: int, rounds: int, each: bool = False
) -> tuple[Tensor, float]:
    """Cluster unit rows (N, C) from `label` (N,); the labels after `rounds`, and the share of comparisons made.

    Args:
        each: a bound for each centre instead of one a pixel.
    """
    label = label.clone()
    rank = torch.arange(num_clusters, 0, -1, dtype=feature.dtype)[:, None]
    need, compared, before = torch.arange(len(feature)), 0, None
    best, bound = feature.new_empty(len(feature)), feature.new_empty(num_clusters if each else 1, len(feature))
    for _ in range(rounds):
        total = feature.new_zeros(num_clusters, feature.shape[1]).index_add_(0, label, feature)
        centre = F.normalize(total, dim=1)
        if before is not None:
            moved = (centre - before).norm(dim=1)  # (K,)
            best -= moved[label]
            bound += moved[:, None] if each else moved.max()
            others = bound.scatter(0, label[None], LOW).amax(dim=0) if each else bound[0]
            need = (best <= others + SLACK).nonzero().squeeze(1)
        before = centre
        similarity = centre @ feature[need].T  # (K, n)
        nearest = similarity.amax(dim=0)
        found = num_clusters - (similarity == nearest).to(feature.dtype).mul_(rank).amax(dim=0).long()
        label[need], best[need] = found, nearest
        bound[:, need] = similarity if each else similarity.scatter_(0, found[None], LOW).amax(dim=0)
        compared += len(need)
    return label, compared / (rounds * len(feature))
