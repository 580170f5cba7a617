"""Cross-entropy on the pixels that have a label."""

import torch.nn.functional as F
from torch import Tensor

from spml.engine.distributed import exchange


def cross_entropy(logit: Tensor, semantic_label: Tensor) -> Tensor:
    """Mean cross-entropy over the labelled pixels of all processes; this process's share of it.

    Args:
        logit: (B, K, h, w) float, resized bilinearly to the label.
        semantic_label: (B, H, W) int64; 255 and everything else from K on is no target.
    """
    num_classes = logit.shape[1]
    logit = F.interpolate(logit.float(), semantic_label.shape[-2:], mode="bilinear", align_corners=False)
    target = semantic_label.masked_fill(semantic_label >= num_classes, 255)
    labelled = exchange().total((target != 255).sum()).clamp(min=1)
    return F.cross_entropy(logit, target, ignore_index=255, reduction="sum") / labelled
