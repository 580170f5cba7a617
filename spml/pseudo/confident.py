"""Confident areas of CAMs as labels, to train affinities on or to spread from: 255 where a CAM says nothing sure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import torch

from spml.data.dataset import EvaluationSample
from spml.data.samples import Sample
from spml.errors import UserError
from spml.inference.cams import background_of
from spml.inference.views import ViewPlan
from spml.models.layers import resize
from spml.propagate.confident import AreasByAlpha, AreasByThreshold, ConfidentAreas
from spml.pseudo.base import Evidence, Labeller, Recipe
from spml.pseudo.cam import check_cams, hash_cams, read_scores
from spml.pseudo.label import label_list

WHOLE = Recipe((1.0,), False, 0, True)


@dataclass(frozen=True)
class CamReader(Labeller):
    """The CAMs of an image as they are; `ConfidentAreas` makes labels of them."""

    num_classes: int
    cam_dir: Path
    background: int | None = 0
    reads_label: ClassVar[bool] = False

    def __call__(self, read: EvaluationSample) -> Evidence | None:
        """(K, h, w) CAMs; None for an image without any where no class is background."""
        path, size = self.cam_dir / f"{read.name}.npy", (read.image.shape[1], read.image.shape[2])
        classes, score = read_scores(path, self.num_classes, size, 1.0, self.background)
        if not classes and self.background is None:
            return None
        return Evidence(resize(score[None], self.plan.output_size(size))[0], None)

    def contents(self, samples: Sequence[Sample]) -> Mapping[str, str]:
        """The CAM files of the samples."""
        return hash_cams(self.cam_dir, samples)


def areas_of(
    config: Any, device: torch.device | None = None, backend: str = "auto", crf: bool = True
) -> ConfidentAreas:
    """The rule of a config: that of the tasks affinity and irn, or the thresholds of `pipeline`, without a CRF.

    Args:
        device, backend: of the CRF.
        crf: without, the levels alone decide.

    Raises:
        UserError: levels in the wrong order, or an unknown backend.
    """
    task, background = config.train.task, background_of(config)
    how: dict[str, Any] = {"background": background, "backend": backend, "device": device}
    how |= {} if crf else {"iterations": 0}
    if task == "affinity":
        own = config.affinity
        _ordered("affinity.object_alpha", own.object_alpha, "affinity.background_alpha", own.background_alpha)
        return AreasByAlpha(objects=own.object_alpha, rest=own.background_alpha, **how)
    if task == "irn":
        own = config.irn
        _ordered("irn.background_threshold", own.background_threshold, "irn.object_threshold", own.object_threshold)
        return AreasByThreshold(objects=own.object_threshold, rest=own.background_threshold, **how)
    own = config.pipeline
    _ordered(
        "pipeline.background_threshold", own.background_threshold, "pipeline.object_threshold", own.object_threshold
    )
    return AreasByThreshold(objects=own.object_threshold, rest=own.background_threshold, **{**how, "iterations": 0})


def _ordered(low: str, low_value: float, high: str, high_value: float) -> None:
    """Raise UserError unless the value of the key `low` is at most that of the key `high`."""
    if low_value > high_value:
        raise UserError(f"{low}: expected at most {high} ({high_value:g}), got {low_value:g}")


def confident_list(
    config: Any,
    samples: Sequence[Sample],
    cam_dir: str | Path | None,
    areas: ConfidentAreas,
    save_dir: str | Path,
    *,
    max_pixels: int = 0,
    crf_workers: int = 0,
    overwrite: bool = False,
) -> str:
    """Write the confident areas of each image as `label_list` writes pseudo labels: PNGs and `list.txt`.

    Args:
        samples: their labels are not read.
        cam_dir: a CAM file of each sample.
        max_pixels: an image with more is labelled at a smaller size; 0: no bound.
        crf_workers, overwrite: as in `label_list`.

    Returns:
        One line saying what was done.

    Raises:
        UserError: CAM files that are missing or do not fit; see `label_list`.
    """
    plan = replace(ViewPlan.from_config(config, max_pixels), scales=WHOLE.scales, image_size=0)
    folder = check_cams(None if cam_dir is None else Path(cam_dir), samples, "spml confident")
    reader = CamReader(plan, int(config.dataset.num_classes), folder, background_of(config))
    return label_list(config, samples, reader, save_dir, crf=areas, crf_workers=crf_workers, overwrite=overwrite)
