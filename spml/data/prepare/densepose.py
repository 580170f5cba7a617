"""The lists of DensePose with the released names, from the folders of a data root.

`annotations/densepose_coco_2014_*.json`, DensePose's own files, say which images a list has. Without them the training
lists have every image with a label, and the validation images cannot be told apart.
"""

import json

from spml.data.prepare.layout import Column, DataRoot, ListPlan
from spml.data.samples import DataError

ANNOTATIONS = "annotations/densepose_coco_2014_{}.json"
EXPERIMENTS = ("point",)


def _labels(folder: str, split: str) -> Column:
    return Column((folder, f"{folder}/{split}"))  # in one folder for all splits, or in one for each


def plan_lists(root: DataRoot) -> list[ListPlan]:
    """The lists of a DensePose data root and the samples that each should have. Raises: DataError for damaged JSON."""
    train, val = (Column((f"images/{split}",), ".jpg") for split in ("train2014", "val2014"))
    points = _labels("segcls/densepose_points/gray", "train2014")
    mask, val_mask = (_labels("segcls/densepose/gray", split) for split in ("train2014", "val2014"))
    regions = _labels("seginst/pmi_0.1_256", "train2014")
    annotated = _annotated(root, "train")
    plans = [
        ListPlan(
            "panoptic_train2014_points_pmi0.1_256",
            annotated or tuple(sorted(root.stems(points))),
            (train, points, regions),
            ("point",),
        ),
        ListPlan(
            "panoptic_train2014_sub",
            annotated or tuple(sorted(root.stems(mask) & root.stems(train))),
            (train, mask, regions),
            ("mask",),
        ),
    ]
    for split, needed_for in (("minival", ("point", "mask")), ("valminusminival", ("mask",))):
        plans.append(ListPlan(f"panoptic_{split}2014", _annotated(root, split), (val, val_mask), needed_for))
    return plans


def _annotated(root: DataRoot, split: str) -> tuple[str, ...]:
    """The names of the images that DensePose annotated; none where the file is not there."""
    path = root.path / ANNOTATIONS.format(split)
    if not path.is_file():
        return ()
    try:
        images = json.loads(path.read_text(encoding="utf-8"))["images"]
        return tuple(sorted({str(image["file_name"]).rpartition("/")[2].rpartition(".")[0] for image in images}))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: expected JSON with `images`, each with its `file_name`: {error!r}") from error
