"""Class activation maps (CAMs) of the known classes of an image."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from spml.data.dataset import EvaluationSample, as_unlabelled
from spml.data.listed import only
from spml.data.pickled import write_cam_file
from spml.data.samples import Sample, read_label
from spml.data.tags import read_tags
from spml.errors import UserError
from spml.inference.loop import Job, go_through
from spml.inference.outputs import Refining
from spml.inference.views import ViewPlan
from spml.inference.whole_views import unmirrored
from spml.models.layers import resize
from spml.propagate.cam import foreground_classes
from spml.records import hash_json

SCALES = (0.5, 1.0, 1.5, 2.0)
FOLDER = "cam"


class Maps(Protocol):
    """A network of CAMs, such as `spml.models.cam.CamModel`."""

    def maps(self, image: Tensor, tag: Tensor | None = None) -> Tensor:
        """(B, 3, H, W), normalised, and (B, K - 1) bool, the classes present -> (B, K - 1, h, w) >= 0."""


def cam_plan(
    config: Any, scales: Sequence[float] | None = None, flip: bool | None = None, max_pixels: int | None = None
) -> ViewPlan:
    """The views of an image: at `test.scales` if given, else at .5, 1, 1.5 and 2, each with its mirror image.

    Scales are relative to the size of training images (`train.image_size`). A view of more than `max_pixels`, by
    default 4 million, is made smaller. `scales` and `flip` override those of the config.
    """
    plan = ViewPlan.from_config(config, 4_000_000 if max_pixels is None else max_pixels)
    chosen = scales or config.test.scales or SCALES
    return replace(plan, scales=tuple(chosen), flip=True if flip is None else flip, image_size=0)


def present_classes(data: Any, samples: Sequence[Sample], classes: Sequence[str]) -> dict[str, list[int]]:
    """The foreground classes of each image, by its name: from `dataset.tags`, else from its label.

    Args:
        data: the section `dataset` of a config; its `background` does not count.
        classes: K names.

    Raises:
        UserError: tags that cannot be used; a sample without tags and label, or a label that cannot be read.
    """
    background = data.get("background", 0)
    tags = read_tags(data.tags, samples, len(classes), classes, background) if data.tags else None
    found = {}
    for sample in samples:
        if tags is not None:
            present = tags[sample.name]
        elif sample.label is not None:
            label = as_unlabelled(read_label(sample.label, sample.where), data.unlabelled_index)
            present = np.bincount(label.ravel(), minlength=256)[: len(classes)] > 0
        else:
            raise UserError(f"{sample.where}: no tags: expected a file dataset.tags, or a semantic label in column 2")
        found[sample.name] = [int(label) for label in np.flatnonzero(present) if label != background]
    return found


@torch.no_grad()
def image_cams(
    image: Tensor,
    present: Sequence[int],
    num_classes: int,
    model: Maps,
    plan: ViewPlan,
    device: torch.device,
    background: int | None = 0,
) -> dict[int, np.ndarray]:
    """The CAMs of one image: resize the maps of all views to the image, sum them, divide each class by its maximum.

    PSA and SEAM do the same, but also subtract the minimum. The resizing is bilinear.

    Args:
        image: (3, H, W) float32, normalised.
        present: the foreground classes of the image; the others get no map.
        num_classes: K, with the background.
        model: on `device`, in eval mode.
        background: its class; None where no class is background.

    Returns:
        A dict from the index among `foreground_classes` to (H, W) float32 in [0, 1] with maximum 1, or 0 everywhere for
        a class that the network does not find.

    Raises:
        UserError: maps that are not finite.
    """
    classes = foreground_classes(num_classes, background)
    index = sorted({classes.index(label) for label in present})
    if not index:
        return {}
    tag = torch.zeros(1, len(classes), dtype=torch.bool, device=device)
    tag[:, index] = True
    size = (image.shape[1], image.shape[2])
    total = torch.zeros(len(index), *size, device=device)
    for views in plan.views(image):
        maps = model.maps(views.to(device), tag.expand(len(views), -1))[:, index].float()  # (1 or 2, P, h, w)
        total += resize(unmirrored(maps), size).sum(0)
    maximum = total.flatten(1).amax(1)  # (P,)
    if not torch.isfinite(maximum).all():
        raise UserError("the CAM network gives values that are not finite: its training has diverged")
    share = total / maximum.masked_fill(maximum <= 0, 1)[:, None, None]
    return dict(zip(index, share.clamp(0, 1).cpu().numpy(), strict=True))


def cam_list(
    config: Any,
    samples: Sequence[Sample],
    present: Mapping[str, Sequence[int]],
    model: Maps,
    plan: ViewPlan,
    device: torch.device,
    save_dir: str | Path,
    *,
    overwrite: bool = False,
) -> str:
    """Write `cam/<name>.npy` of each image of a list, in the release's format.

    See `go_through` for what stops it, what is skipped and how several processes share the list.

    Args:
        samples: their labels are not read.
        present: by name, the foreground classes of each image.

    Returns:
        One line saying what was done.
    """
    save_dir, num_classes, background = Path(save_dir), int(config.dataset.num_classes), background_of(config)
    samples = only(samples)

    def target(name: str) -> str:
        return f"{FOLDER}/{name}.npy"

    def work(read: EvaluationSample, refiner: Refining | None) -> None:
        cams = image_cams(read.image, present[read.name], num_classes, model, plan, device, background)
        write_cam_file(save_dir / target(read.name), cams)

    def contents() -> Mapping[str, str]:
        return {"tags": hash_json({sample.name: list(present[sample.name]) for sample in sorted(samples, key=_name)})}

    things = {"model": model, "plan": plan, "background": background}
    job = Job("CAMs", things, target, ("*.npy",), work, contents=contents)
    done = go_through(config, samples, job, save_dir, overwrite=overwrite)
    return done.line("CAM files", save_dir / FOLDER)


def _name(sample: Sample) -> str:
    return sample.name


def background_of(config: Any) -> int | None:
    """The index of the background class; None if no class is background."""
    background = config.dataset.get("background", 0)
    return None if background is None else int(background)
