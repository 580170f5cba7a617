"""Class activation maps (CAMs) of the classes that an image is known to show."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from spml.data.dataset import mark_unlabelled, read_sample
from spml.data.lists import Sample, check_samples, check_unique_names, read_label
from spml.data.pickled import write_cam_file
from spml.data.tags import read_tags
from spml.errors import UserError
from spml.inference.views import ViewPlan
from spml.inference.whole_views import resize, unmirrored

SCALES = (0.5, 1.0, 1.5, 2.0)
FOLDER = "cam"


class Maps(Protocol):
    """A network of CAMs, such as `spml.models.cam.CamModel`."""

    def maps(self, image: Tensor, tag: Tensor | None = None) -> Tensor:
        """(B, 3, H, W), normalised, and (B, K - 1) bool, the classes present -> (B, K - 1, h, w) >= 0."""


def cam_plan(
    config: Any, scales: Sequence[float] | None = None, flip: bool | None = None, max_pixels: int | None = None
) -> ViewPlan:
    """The views of an image: `test.scales` where it names several, else .5, 1, 1.5 and 2, each with its mirror image.

    They start from the size of training images (`train.image_size`); a view of more than `max_pixels`, by default 4
    million, is made smaller. `scales` and `flip` go before.
    """
    plan = ViewPlan.from_config(config, 4_000_000 if max_pixels is None else max_pixels)
    chosen = tuple(scales) if scales is not None else SCALES if plan.single_scale else plan.scales
    return replace(plan, scales=chosen, flip=True if flip is None else flip, image_size=0)


def present_classes(data: Any, samples: Sequence[Sample], classes: Sequence[str]) -> dict[str, list[int]]:
    """The foreground classes, in 1..K-1, that each image shows, by name: from `dataset.tags`, else from its label.

    Args:
        data: the section `dataset` of a config.
        classes: K names, background first.

    Raises:
        UserError: tags that cannot be used; a sample without tags and label, or a label that cannot be read.
    """
    tags = read_tags(data.tags, samples, len(classes), classes) if data.tags else None
    found = {}
    for sample in samples:
        if tags is not None:
            shown = tags[sample.name]
        elif sample.semantic is not None:
            label = mark_unlabelled(read_label(sample.semantic, sample.where), data.unlabelled_index)
            shown = np.bincount(label.ravel(), minlength=256)[: len(classes)] > 0
        else:
            raise UserError(f"{sample.where}: no tags: expected a file dataset.tags, or a semantic label in column 2")
        found[sample.name] = [int(label) for label in np.flatnonzero(shown) if label]
    return found


@torch.no_grad()
def image_cams(
    image: Tensor, present: Sequence[int], num_classes: int, model: Maps, plan: ViewPlan, device: torch.device
) -> dict[int, np.ndarray]:
    """The CAMs of one image: the maps of all views, resized bilinearly to the image, summed, over each class's maximum.

    As PSA and SEAM make them, without their subtraction of the minimum.

    Args:
        image: (3, H, W) float32, normalised.
        present: the classes that the image shows, in 1..K-1; the others get no map.
        num_classes: K, with the background.
        model: on `device`, in eval mode.

    Returns:
        Foreground class index (class - 1) to (H, W) float32 in [0, 1], its maximum 1; 0 everywhere for a class that the
        network sees nowhere.

    Raises:
        UserError: maps that are not finite.
    """
    index = sorted({label - 1 for label in present})
    if not index:
        return {}
    tag = torch.zeros(1, num_classes - 1, dtype=torch.bool, device=device)
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

    Images that have their file already are skipped unless `overwrite`, so an interrupted run continues.

    Args:
        samples: their labels are not read.
        present: by name, the foreground classes of each image, in 1..K-1.

    Returns:
        One line saying what was done.
    """
    start, folder = time.time(), Path(save_dir) / FOLDER
    check_unique_names(samples)
    samples = [replace(sample, label=None, regions=None) for sample in samples]
    num_classes, network = int(config.dataset.num_classes), config.network
    check_samples(samples, num_classes)
    pending = [sample for sample in samples if overwrite or not (folder / f"{sample.name}.npy").is_file()]
    for sample in tqdm(pending, desc="CAMs", unit="image"):
        read = read_sample(sample, network.pixel_means, network.pixel_stds)
        cams = image_cams(read.image, present[sample.name], num_classes, model, plan, device)
        write_cam_file(folder / f"{sample.name}.npy", cams)
    seconds = time.time() - start
    each = f", {seconds / len(pending):.2f} s an image" if pending else ""
    return (
        f"{len(pending)} CAM files, {len(samples) - len(pending)} were there already: {folder}, {seconds:.1f} s{each}"
    )
