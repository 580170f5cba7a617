"""Makes labels from class activation maps (CAMs) of tags and boxes, by the thresholds of the release."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from spml import records
from spml.data.annotate import Box
from spml.data.annotate_list import label_rows
from spml.data.lists import write_list
from spml.data.pickled import read_cam_file
from spml.data.prepare.boxes import read_boxes
from spml.data.prepare.convert import IMAGE_SUFFIXES, MADE, convert_files, convert_folder, find_files
from spml.data.samples import DataError, Sample, image_size, read_image, read_label
from spml.errors import UserError
from spml.processes import barrier, rank
from spml.propagate.cam import ALPHA, BOX_THRESHOLD, TAG_THRESHOLD, box_label, tag_label
from spml.visualize.heat import cam_picture

KINDS = ("tag", "box")
KIND = "labels of CAMs"  # of the record
THRESHOLD = {"tag": TAG_THRESHOLD, "box": BOX_THRESHOLD}

Size = tuple[int, int]


@dataclass(frozen=True)
class LabelRule:
    """The rule that turns CAMs into labels.

    Args:
        kind: "tag": the background's score is (1 - max)^alpha, and pixels under the threshold are unlabelled. "box":
            the CAM of each box is rescaled to 0..1 inside it, pixels under the threshold are unlabelled, and pixels
            outside every box are background; `alpha` is not used.
        num_classes: K, with the background.
        threshold: None: 0.2 for tags, 0.5 for boxes.
        background: its class; None: no class is background, and such pixels stay unlabelled.

    Raises: UserError for another kind and numbers out of range.
    """

    kind: str
    num_classes: int
    alpha: float = ALPHA
    threshold: float | None = None
    background: int | None = 0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UserError(f"--kind: expected one of {', '.join(KINDS)}, got {self.kind!r}")
        if not 0 <= self.level <= 1:
            raise UserError(f"--threshold: expected a number in [0, 1], got {self.level}")
        if self.alpha <= 0:
            raise UserError(f"--alpha: expected a number above 0, got {self.alpha}")

    @property
    def level(self) -> float:
        """The threshold."""
        return THRESHOLD[self.kind] if self.threshold is None else self.threshold

    def label(self, path: Path, size: Size, boxes: Sequence[Box] = ()) -> np.ndarray:
        """The label (H, W) uint8, 254 unlabelled, of a CAM file of an image of `size` (H, W), with its boxes.

        Raises: DataError for a CAM of another size or class.
        """
        cams = read_cam_file(path)
        for index, cam in cams.items():
            if cam.shape != size:
                raise DataError(f"{path}: expected a CAM of {size} as the image, got {cam.shape} of class {index}")
        if self.kind == "box":
            return box_label(cams, boxes, size, threshold=self.level, background=self.background)
        how: dict[str, Any] = {"alpha": self.alpha, "threshold": self.level, "background": self.background}
        try:
            return tag_label(cams, self.num_classes, size, **how)
        except ValueError as error:
            raise DataError(f"{path}: {error}") from error


def _of_tags(path: Path, rule: LabelRule, images: Mapping[str, Path]) -> np.ndarray:
    return rule.label(path, image_size(images[path.stem]))


def _of_boxes(path: Path, rule: LabelRule, boxes: Mapping[str, Path], classes: tuple[str, ...]) -> np.ndarray:
    return rule.label(path, *read_boxes(boxes[path.stem], classes))


def convert_cams(
    cam_dir: str | Path,
    save_dir: str | Path,
    kind: str,
    classes: Sequence[str],
    *,
    image_dir: str | Path | None = None,
    box_dir: str | Path | None = None,
    alpha: float = ALPHA,
    threshold: float | None = None,
    num_workers: int | None = None,
    overwrite: bool = False,
    background: int | None = 0,
) -> str:
    """Write `save_dir/<name>.png` (uint8 ids, 254 unlabelled) for every CAM file `<name>.npy` of a folder.

    Without `overwrite` it skips existing labels, and labels of other CAMs, boxes or thresholds are an error.

    Args:
        kind, alpha, threshold, background: as in `LabelRule`. "tag" needs `image_dir`, because the CAM file of an image
            without classes does not tell its size; "box" needs `box_dir`.
        classes: names, background first.
        box_dir: VOC annotations `<name>.xml`.

    Returns: one line saying what was done. Raises: UserError for options that do not fit and files that cannot be used.
    """
    rule = LabelRule(kind, len(classes), alpha, threshold, background)
    needed, option = (image_dir, "--image_dir, the images") if kind == "tag" else (box_dir, "--box_dir, the XML files")
    if needed is None:
        raise UserError(f"--kind {kind} needs {option}")
    sources = find_files(cam_dir, (".npy",))
    suffixes = IMAGE_SUFFIXES if kind == "tag" else (".xml",)
    beside = {path.stem: path for path in find_files(needed, suffixes, [source.stem for source in sources])}
    convert: Callable[[Path], np.ndarray]
    if kind == "tag":
        convert = partial(_of_tags, rule=rule, images=beside)
    else:
        convert = partial(_of_boxes, rule=rule, boxes=beside, classes=tuple(classes))
    boxes = [beside[source.stem] for source in sources] if kind == "box" else []
    return convert_folder(
        *(KIND, {"rule": rule}, sources, save_dir, convert),
        contents={"boxes": records.hash_files(boxes)} if boxes else None,
        num_workers=num_workers,
        overwrite=overwrite,
    )


def label_samples(
    samples: Sequence[Sample],
    save_dir: str | Path,
    rule: LabelRule,
    data_dir: str | Path,
    boxes: Mapping[str, Sequence[Box]] | None = None,
) -> Path:
    """Write `<kind>_label/<name>.png` of each sample's `cam/<name>.npy`, and the list that training reads.

    It replaces labels of other CAMs, boxes or thresholds.

    Args:
        samples: the new list keeps their third column, if there is one.
        save_dir: the folder that has `cam/`; it gets the labels and the list.
        data_dir: the folder that the paths of the list are relative to.
        boxes: of every sample, by name; for the kind "box".

    Returns: the list, `save_dir/list_<kind>.txt`. Raises: UserError for files and paths that cannot be used.
    """
    save_dir = Path(save_dir)
    folder, list_path = save_dir / f"{rule.kind}_label", save_dir / f"list_{rule.kind}.txt"
    rows = label_rows(samples, folder, data_dir)
    images = {sample.name: sample.image_path for sample in samples}

    def convert(path: Path) -> np.ndarray:
        return rule.label(path, image_size(images[path.stem]), boxes[path.stem] if boxes is not None else ())

    sources = [save_dir / "cam" / f"{sample.name}.npy" for sample in samples]
    contents = {"cams": records.hash_files(sources)}
    if boxes is not None:
        contents["boxes"] = records.hash_json(
            [[sample.name, list(map(list, boxes[sample.name]))] for sample in samples]
        )
    unknown = records.read(folder) is None  # labels of an older version
    records.start(folder, records.record_of(KIND, {"rule": rule}, contents), made=MADE, overwrite=True)
    convert_files(sources, folder, convert, description=f"{rule.kind} labels", num_workers=0, overwrite=unknown)
    records.finish(folder, list=str(list_path))
    write_list(list_path, rows)
    return list_path


def with_instances(samples: Sequence[Sample], instance_dir: str | Path) -> list[Sample]:
    """The samples with the over-segmentation `instance_dir/<name>.png` each. Raises: DataError where one is missing."""
    found = [replace(sample, regions=Path(instance_dir) / f"{sample.name}.png") for sample in samples]
    for sample in found:
        if not sample.files[-1].is_file():
            raise DataError(f"{sample.where}: no over-segmentation {sample.files[-1]}; make it with `spml oversegment`")
    return found


def label_and_draw(
    samples: Sequence[Sample],
    save_dir: str | Path,
    rules: Sequence[LabelRule],
    data_dir: str | Path,
    classes: Sequence[str],
    *,
    boxes: Mapping[str, Sequence[Box]] | None = None,
    pictures: int = 0,
) -> str:
    """Make the labels of every rule (`label_samples`), then pictures (`draw_cams`). Returns the paths of the lists.

    With several processes, one does the work and the others wait.
    """
    lines = []
    if rank() == 0:
        lines = [f"{rule.kind} labels: {label_samples(samples, save_dir, rule, data_dir, boxes)}" for rule in rules]
        draw_cams(samples, save_dir, [rule.kind for rule in rules], classes, pictures, rules[0].background)
    barrier()
    return "\n".join(lines)


def draw_cams(
    samples: Sequence[Sample],
    save_dir: str | Path,
    kinds: Sequence[str],
    classes: Sequence[str],
    count: int,
    background: int | None = 0,
) -> None:
    """Write `picture/<name>.png` of up to `count` samples, spread evenly over the list: heat of each class and labels.

    Args:
        save_dir: holds `cam/` and `<kind>_label/` of each of `kinds`.
        classes: K names.
        background: as in `LabelRule`.
    """
    save_dir = Path(save_dir)
    for place in np.unique(np.linspace(0, len(samples) - 1, min(count, len(samples))).astype(int)):
        sample = samples[place]
        cams = read_cam_file(save_dir / "cam" / f"{sample.name}.npy")
        labels = {f"{kind} label": read_label(save_dir / f"{kind}_label" / f"{sample.name}.png") for kind in kinds}
        target = save_dir / "picture" / f"{sample.name}.png"
        cam_picture(read_image(sample), cams, labels, target, classes, background=background)
