"""Pseudo labels from CAMs, which a network of their own made (released as pseudo_camrw_crf)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch.nn.functional as F

from spml.data.dataset import EvaluationSample
from spml.data.pickled import read_cam_file
from spml.data.samples import Sample
from spml.errors import UserError
from spml.inference.cams import background_of
from spml.inference.predictors import load_models
from spml.inference.whole_views import STRIDE, WholeViews, eighth, working_size
from spml.models.layers import resize
from spml.propagate.cam import cam_scores
from spml.pseudo.base import WALK_STEPS, Evidence, Labeller, Materials, Recipe, Source
from spml.records import hash_files, require_complete


@dataclass(frozen=True)
class CamLabeller(Labeller):
    """CAMs and the background they leave, as the release: (1 - max)^6, at 1/8 size. Labels play no part.

    Where no class is background, an image without CAMs is unknown.
    """

    views: WholeViews | None  # None: no walk, no network
    num_classes: int
    cam_dir: Path
    background: int | None = 0
    reads_label: ClassVar[bool] = False

    def __call__(self, read: EvaluationSample) -> Evidence | None:
        path, size = self.cam_dir / f"{read.name}.npy", (read.image.shape[1], read.image.shape[2])
        cams = read_cam_file(path)
        if not cams and self.background is None:
            return None
        try:
            score = cam_scores(cams, self.num_classes, size, background=self.background)
        except ValueError as error:
            raise UserError(f"{path}: {error}") from error
        score = resize(score[None], working_size(self.plan, read.image))
        if min(score.shape[-2:]) >= STRIDE:
            # The release hands the factor, not the size: pixel i of the small map stands for 8 i to 8 i + 7 exactly,
            # where those of the embedding are spread over the whole image.
            score = F.interpolate(score, scale_factor=1 / STRIDE, mode="bilinear", align_corners=False)
        score = resize(score, eighth(working_size(self.plan, read.image)))[0]
        if self.views is None:
            return Evidence(score, None)
        return Evidence(score.to(self.views.device), self.views.at_eighth(read.image))

    def contents(self, samples: Sequence[Sample]) -> Mapping[str, str]:
        """The CAM files of the samples."""
        return {"cams": hash_files(self.cam_dir / f"{name}.npy" for name in sorted(one.name for one in samples))}


def build(materials: Materials) -> CamLabeller:
    """With a file for every sample; the network is for the walk alone."""
    folder, plan = _check_cams(materials.cam_dir, materials.samples), materials.plan
    require_complete(folder, "the folder of CAMs")
    views = None
    if materials.walk_steps:
        model, _ = load_models(materials.config, materials.snapshot, materials.device, with_classifier=False)
        views = WholeViews(model, plan, materials.device)
    return CamLabeller(plan, views, materials.num_classes, folder, background_of(materials.config))


def _check_cams(cam_dir: Path | None, samples: Sequence[Sample]) -> Path:
    if cam_dir is None:
        raise UserError("--source cam needs --cam_dir, a folder of CAM files <name>.npy")
    missing = [sample for sample in samples if not (cam_dir / f"{sample.name}.npy").is_file()]
    if missing:
        first = missing[0]
        raise UserError(
            f"{first.where}: no CAM file {cam_dir / first.name}.npy "
            f"({len(missing)} of the {len(samples)} images of the list have none)"
        )
    return cam_dir


SOURCE = Source(
    "class activation maps, and the background that they leave",
    needs=("snapshot", "cam_dir"),
    recipe=Recipe((1.0,), True, WALK_STEPS, True),
    build=build,
)
