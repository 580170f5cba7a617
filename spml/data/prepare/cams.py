"""Labels of tags and boxes from class activation maps (CAMs), by the thresholds of the release."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from spml.cli import UserError
from spml.data.lists import DataError
from spml.data.pickled import read_cam_file
from spml.data.prepare.boxes import read_boxes
from spml.data.prepare.convert import IMAGE_SUFFIXES, convert_files, find_files, image_size
from spml.propagate.cam import ALPHA, BOX_THRESHOLD, TAG_THRESHOLD, box_label, tag_label

KINDS = ("tag", "box")
THRESHOLD = {"tag": TAG_THRESHOLD, "box": BOX_THRESHOLD}


def _tag_label(path: Path, images: dict[str, Path], num_classes: int, alpha: float, threshold: float) -> np.ndarray:
    size = image_size(images[path.stem])
    try:
        return tag_label(read_cam_file(path), num_classes, size, alpha=alpha, threshold=threshold)
    except ValueError as error:
        raise DataError(f"{path}: {error}") from error


def _box_label(path: Path, boxes: dict[str, Path], classes: tuple[str, ...], threshold: float) -> np.ndarray:
    size, found = read_boxes(boxes[path.stem], classes)
    cams = read_cam_file(path)
    for index, cam in cams.items():
        if cam.shape != size:
            raise DataError(f"{path}: expected a CAM of {size} as {boxes[path.stem]} says, got {cam.shape} of {index}")
    return box_label(cams, found, size, threshold=threshold)


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
) -> str:
    """Write `save_dir/<name>.png` (uint8 ids, 254 unlabelled) for every CAM file `<name>.npy` of a folder.

    Args:
        kind: "tag": the background is (1 - max)^alpha and pixels under the threshold are unlabelled; needs `image_dir`,
            as an image without classes has no CAM that tells its size. "box": each box's CAM is brought to 0..1 inside
            it, and background is what lies outside every box; needs `box_dir`.
        classes: names, background first.
        box_dir: VOC annotations `<name>.xml`.
        threshold: None: 0.2 for tags, 0.5 for boxes.

    Returns: one line saying what was done. Raises: UserError for options that do not fit and files that cannot be used.
    """
    if kind not in KINDS:
        raise UserError(f"--kind: expected one of {', '.join(KINDS)}, got {kind!r}")
    threshold = THRESHOLD[kind] if threshold is None else threshold
    if not 0 <= threshold <= 1:
        raise UserError(f"--threshold: expected a number in [0, 1], got {threshold}")
    if alpha <= 0:
        raise UserError(f"--alpha: expected a number above 0, got {alpha}")
    needed, option = (image_dir, "--image_dir, the images") if kind == "tag" else (box_dir, "--box_dir, the XML files")
    if needed is None:
        raise UserError(f"--kind {kind} needs {option}")
    sources = find_files(cam_dir, (".npy",))
    suffixes = IMAGE_SUFFIXES if kind == "tag" else (".xml",)
    beside = {path.stem: path for path in find_files(needed, suffixes, [source.stem for source in sources])}
    if kind == "tag":
        convert = partial(_tag_label, images=beside, num_classes=len(classes), alpha=alpha, threshold=threshold)
    else:
        convert = partial(_box_label, boxes=beside, classes=tuple(classes), threshold=threshold)
    return convert_files(
        sources, save_dir, convert, description=f"{kind} labels", num_workers=num_workers, overwrite=overwrite
    )
