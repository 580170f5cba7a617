"""Confident areas of class activation maps: where a map is surely an object, surely background, or neither.

Two levels make two labellings of the image, each refined by a CRF: one that gives much to the background, whose objects
are sure, and one that gives it little, whose background is sure.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from spml.classes import IGNORE
from spml.propagate.crf import DenseCRF


@dataclass(frozen=True)
class ConfidentAreas(DenseCRF):
    """A CRF that labels confident areas. `scores` says what a level makes of CAMs; see the subclasses.

    Args:
        objects: the level that gives much to the background.
        rest: the level that gives it little.
        background: its class; None: no class is background, and only objects are labelled.
    """

    objects: float = 0.0
    rest: float = 0.0
    background: int | None = 0

    def scores(self, cams: Tensor, level: float) -> Tensor:
        """(P, h, w) CAMs in [0, 1] -> (1 + P, h, w) probabilities for the CRF, what is no object first."""
        raise NotImplementedError

    def label(self, image: np.ndarray | Tensor, probability: np.ndarray | Tensor) -> np.ndarray:
        """The confident areas of an image.

        A pixel is an object where the first labelling says so, and background where neither says an object. Where the
        CRFs disagree so that only the first says an object, it counts, as in IRN's code; AffinityNet's has background.

        Args:
            image: (h, w, 3) uint8.
            probability: (K, h, w) float in [0, 1]: the CAM of each class. A class that is zero everywhere does not
                compete, and the background's row is not read.

        Returns:
            (h, w) uint8 classes; 255 where the labellings differ, and what is no object without a background.
        """
        cams = torch.as_tensor(probability).float()
        classes = [k for k, seen in enumerate((cams.flatten(1) > 0).any(1).tolist()) if seen and k != self.background]
        nothing = IGNORE if self.background is None else self.background
        names = np.array([nothing, *classes], np.uint8)
        first, second = (
            names[super(ConfidentAreas, self).label(image, self.scores(cams[classes], level))]
            for level in (self.objects, self.rest)
        )
        return np.where(first != nothing, first, np.where(second == nothing, nothing, IGNORE)).astype(np.uint8)


@dataclass(frozen=True)
class AreasByAlpha(ConfidentAreas):
    """AffinityNet's: the background's score is (1 - max CAM)^alpha; its CRF has two Gaussians of weights 3 and 10."""

    pos_xy_std: float = 3
    bi_w: float = 10
    bi_xy_std: float = 80
    bi_rgb_std: float = 13
    objects: float = 4
    rest: float = 32

    def scores(self, cams: Tensor, level: float) -> Tensor:
        strongest = cams.amax(0) if len(cams) else cams.new_zeros(cams.shape[1:])
        return torch.cat([(1 - strongest).clamp(min=0).pow(level)[None], cams])


@dataclass(frozen=True)
class AreasByThreshold(ConfidentAreas):
    """IRN's: the background's score is a threshold; the CRF starts from the best label, of which it is 70 % sure."""

    pos_xy_std: float = 3
    bi_w: float = 10
    bi_xy_std: float = 50
    bi_rgb_std: float = 5
    objects: float = 0.3
    rest: float = 0.05
    certainty: float = 0.7

    def scores(self, cams: Tensor, level: float) -> Tensor:
        competing = torch.cat([cams.new_full((1, *cams.shape[1:]), level), cams])
        best = F.one_hot(competing.argmax(0), len(competing)).permute(2, 0, 1)  # (1 + P, h, w)
        others = (1 - self.certainty) / max(len(cams), 1)
        return torch.where(best > 0, self.certainty, others)
