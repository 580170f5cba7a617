"""Cross-entropy on the pixels that have a label."""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from spml.config.kinds import number
from spml.config.settings import setting
from spml.grouping.memory import ALONE, Exchange
from spml.losses.base import Inputs, Loss


def cross_entropy(logit: Tensor, label: Tensor, exchange: Exchange = ALONE) -> Tensor:
    """Mean cross-entropy over the labelled pixels of all processes; this process's share of it.

    Args:
        logit: (B, K, h, w) float, resized bilinearly to the label.
        label: (B, H, W) int64; values of K and above, such as 255, count as unlabelled.
        exchange: the other processes.

    Returns:
        A float32 scalar; 0 where nothing is labelled.
    """
    num_classes = logit.shape[1]
    logit = F.interpolate(logit.float(), label.shape[-2:], mode="bilinear", align_corners=False)
    target = label.masked_fill(label >= num_classes, 255)
    labelled = exchange.total((target != 255).sum()).clamp(min=1)
    return F.cross_entropy(logit, target, ignore_index=255, reduction="sum") / labelled


@dataclass(frozen=True)
class CrossEntropy:
    """Settings."""

    weight: float = setting(1.0, number(low=0), "weight in the sum")


def _loss(inputs: Inputs, settings: CrossEntropy) -> Tensor:
    return cross_entropy(inputs.logit, inputs.label, inputs.exchange)


LOSS = Loss("cross-entropy of the classifier on labelled pixels", CrossEntropy, ("logit", "label"), _loss)
