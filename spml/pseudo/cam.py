"""Pseudo labels from the CAMs of a separate network (released as pseudo_camrw_crf)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from spml.data.dataset import EvaluationSample
from spml.data.pickled import read_cam_file
from spml.data.samples import Sample
from spml.errors import UserError
from spml.inference.cams import background_of
from spml.inference.predictors import load_models
from spml.inference.shares import hash_beside
from spml.inference.whole_views import STRIDE, WholeViews, eighth, working_size
from spml.models.layers import resize
from spml.propagate.cam import ALPHA, cam_scores, foreground_classes
from spml.pseudo.base import WALK_STEPS, Evidence, Labeller, Materials, Recipe, Source
from spml.records import require_complete


@dataclass(frozen=True)
class CamLabeller(Labeller):
    """CAMs, and the background (1 - max)^alpha, at 1/8 size; the release has 6. It does not use labels.

    Where no class is background, it gives no scores for an image without CAMs.
    """

    views: WholeViews | None  # None: no walk, no network
    num_classes: int
    cam_dir: Path
    background: int | None = 0
    alpha: float = ALPHA
    reads_label: ClassVar[bool] = False

    def __call__(self, read: EvaluationSample) -> Evidence | None:
        path, size = self.cam_dir / f"{read.name}.npy", (read.image.shape[1], read.image.shape[2])
        classes, score = read_scores(path, self.num_classes, size, self.alpha, self.background)
        if not classes and self.background is None:
            return None
        score = resize(score[None], working_size(self.plan, read.image))
        if min(score.shape[-2:]) >= STRIDE:
            # The release resizes by the factor, not to the size: pixel i of the small map covers 8 i to 8 i + 7, while
            # the embedding's pixels are spread over the whole image.
            score = F.interpolate(score, scale_factor=1 / STRIDE, mode="bilinear", align_corners=False)
        score = resize(score, eighth(working_size(self.plan, read.image)))[0]
        if self.views is None:
            return Evidence(score, None)
        return Evidence(score.to(self.views.device), self.views.at_eighth(read.image))

    def contents(self, samples: Sequence[Sample]) -> Mapping[str, str]:
        """The CAM files of the samples."""
        return hash_cams(self.cam_dir, samples)


def hash_cams(cam_dir: Path, samples: Sequence[Sample]) -> Mapping[str, str]:
    """The hash of the samples' CAM files for a record."""
    return {"cams": hash_beside(lambda name: cam_dir / f"{name}.npy", samples)}


def read_scores(
    path: Path, num_classes: int, size: tuple[int, int], alpha: float, background: int | None
) -> tuple[list[int], Tensor]:
    """The classes that have a CAM in a file, and `cam_scores` (K, H, W) of its image.

    Raises:
        UserError: a file that cannot be read, or CAMs of other classes or of another size.
    """
    cams, labels = read_cam_file(path), foreground_classes(num_classes, background)
    try:
        score = cam_scores(cams, num_classes, size, alpha, background)
    except ValueError as error:
        raise UserError(f"{path}: {error}") from error
    return sorted(labels[index] for index in cams), score


def build(materials: Materials) -> CamLabeller:
    """Build the source; every sample must have a CAM file. Only the walk uses the network."""
    folder, plan = check_cams(materials.cam_dir, materials.samples), materials.plan
    views = None
    if materials.walk_steps:
        config, snapshot, device = materials.config, materials.snapshot, materials.device
        model, _ = load_models(config, snapshot, device, with_classifier=False, runtime=materials.runtime)
        views = WholeViews(model, plan, device)
    background, alpha = background_of(materials.config), float(materials.config.test.cam_alpha)
    return CamLabeller(plan, views, materials.num_classes, folder, background, alpha)


def check_cams(cam_dir: Path | None, samples: Sequence[Sample], who: str = "--source cam") -> Path:
    """The folder, if it is complete and has a CAM file of every sample. Raises UserError, in the name of `who`."""
    if cam_dir is None:
        raise UserError(f"{who} needs --cam_dir, a folder of CAM files <name>.npy")
    missing = [sample for sample in samples if not (cam_dir / f"{sample.name}.npy").is_file()]
    if missing:
        first = missing[0]
        raise UserError(
            f"{first.where}: no CAM file {cam_dir / first.name}.npy "
            f"({len(missing)} of the {len(samples)} images of the list have none)"
        )
    require_complete(cam_dir, "the folder of CAMs")
    return cam_dir


SOURCE = Source(
    "class activation maps, and the background that they leave",
    needs=("snapshot", "cam_dir"),
    recipe=Recipe((1.0,), True, WALK_STEPS, True),
    build=build,
)
