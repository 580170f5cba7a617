"""Annotations for a whole data list: PNGs and the list that training reads."""

import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from spml.data.annotate import Array, Box, box_label, boxes, points, sample_seed, scribbles, tags
from spml.data.lists import check_unique_names, given_entries, read_list, write_list
from spml.data.samples import UNLABELLED, DataError, Sample, read_sample_files
from spml.errors import UserError
from spml.files import write_atomically

KINDS = ("scribble", "point", "box", "tag")
DILATION = {"scribble": 3, "point": 6, "box": 0, "tag": 0}  # pixels, as the released annotations


def annotate_list(
    data_dir: str | Path,
    data_list: str | Path,
    save_dir: str | Path,
    kind: str,
    *,
    seed: int = 0,
    length_ratio: float = 1.0,
    dilation: int | None = None,
    num_classes: int | None = None,
    background: int | None = 0,
    instance_dir: str | Path | None = None,
) -> Path:
    """Make the weak annotations of every sample of a list `image mask [instance]`.

    Args:
        kind: `scribble`, `point` or `box` write `save_dir/<kind>/<name>.png` (uint8, 254 unlabelled), `box` also
            `save_dir/boxes.json` (name -> list of class, x0, y0, x1, y1; the last two lie outside); `tag` writes
            `save_dir/tags.txt` (name and classes of each image) and no PNG.
        length_ratio: part of each scribble that is drawn; other than 1 the folder is `<kind>_<length_ratio>`.
        dilation: pixels; None: 3 for scribbles, 6 for points.
        num_classes: mask values from here on are not annotated; None: every value below 254 is a class.
        background: the class that gets neither tag nor box; None: every class does.
        instance_dir: folder of over-segmentations `<name>.png` to name in the third column.

    Returns: the list written, `save_dir/<stem of data_list>_<kind>.txt`, its paths relative to `data_dir`.
    Raises: UserError for options out of range, files that cannot be read, and paths that a list cannot hold.
    """
    _check(kind, seed, length_ratio, dilation, num_classes)
    samples = read_list(data_list, data_dir, columns=2)
    check_unique_names(samples)
    folder = kind if length_ratio == 1 or kind != "scribble" else f"{kind}_{length_ratio:g}"
    save_dir = Path(save_dir)
    pictures = [] if kind == "tag" else [save_dir / folder / f"{sample.name}.png" for sample in samples]
    rows = _rows(samples, pictures, Path(data_dir), instance_dir)
    list_path = save_dir / f"{Path(data_list).stem}_{folder}.txt"
    write_list(list_path, rows)  # before the pictures: a path that it cannot hold shows at once
    kinds: dict = {"num_classes": num_classes or UNLABELLED, "background": background}
    radius = DILATION[kind] if dilation is None else dilation
    lines = []  # of boxes.json or tags.txt
    for number, sample in enumerate(tqdm(samples, desc=kind, unit="image")):
        _, mask, instance = read_sample_files(sample)
        assert mask is not None
        own = sample_seed(sample.name, seed)
        if kind == "tag":
            lines.append(" ".join([sample.name, *map(str, tags(mask, **kinds))]) + "\n")
            continue
        if kind == "box":
            found = boxes(mask, instance, **kinds)
            lines.append(f"{json.dumps(sample.name)}: {json.dumps([_box_entry(box) for box in found])}")
            label = box_label(found, mask.shape, background=background)
        elif kind == "point":
            label = points(mask, instance, seed=own, dilation=radius, **kinds)
        else:
            label = scribbles(mask, instance, seed=own, length_ratio=length_ratio, dilation=radius, **kinds)
        write_label(pictures[number], label)
    if kind == "box":
        write_atomically(save_dir / "boxes.json", lambda file: file.write(("{" + ",\n".join(lines) + "}\n").encode()))
    if kind == "tag":
        write_atomically(save_dir / "tags.txt", lambda file: file.write("".join(lines).encode()))
    return list_path


def _box_entry(box: Box) -> dict[str, int]:
    return dict(zip(("class", "x0", "y0", "x1", "y1"), box, strict=True))


def write_label(path: Path, label: Array) -> None:
    """Write a label (H, W) as an 8-bit grey PNG, atomically."""
    write_atomically(path, lambda file: Image.fromarray(label.astype(np.uint8)).save(file, format="PNG"))


def relative_path(path: Path, data_dir: Path) -> str:
    """The entry of a list that leads from `data_dir` to `path`, with `..` where `path` lies elsewhere."""
    return Path(os.path.relpath(os.path.realpath(path), os.path.realpath(data_dir))).as_posix()


def label_rows(samples: Sequence[Sample], folder: str | Path, data_dir: str | Path) -> list[list[str]]:
    """The lines of a list of new labels `folder/<name>.png`: `image label [instance]`, relative to `data_dir`.

    Args:
        samples: what their own lists say of image and instance stays.

    Raises:
        DataError: a folder that a list cannot name.
    """
    data_dir = Path(data_dir).expanduser()
    entry = relative_path(Path(folder), data_dir)
    if len(entry.split()) != 1:
        raise DataError(
            f"--save_dir {Path(folder).parent}: seen from data_dir it is {entry!r}, and a data list cannot hold "
            "spaces: expected a folder without them, or one inside data_dir"
        )
    rows = []
    for sample in samples:
        image, *instance = given_entries(sample, data_dir, "image", "regions")
        rows.append([image, f"{entry}/{sample.name}.png", *instance])
    return rows


def _rows(
    samples: list[Sample], pictures: list[Path], data_dir: Path, instance_dir: str | Path | None
) -> list[list[str]]:
    """The lines of the new list. Images keep their entry; with `instance_dir` and pictures comes a third column."""
    rows = [given_entries(sample, data_dir, "image") for sample in samples]
    for row, picture in zip(rows, pictures, strict=False):
        row.append(relative_path(picture, data_dir))
    if instance_dir is not None and pictures:
        for row, sample in zip(rows, samples, strict=True):
            instance = Path(instance_dir) / f"{sample.name}.png"
            if not instance.is_file():
                raise DataError(f"{sample.where}: no over-segmentation {instance}; make it with oversegment.py")
            row.append(relative_path(instance, data_dir))
    return rows


def _check(kind: str, seed: int, length_ratio: float, dilation: int | None, num_classes: int | None) -> None:
    if kind not in KINDS:
        raise UserError(f"--kind: expected one of {', '.join(KINDS)}, got {kind!r}")
    if seed < 0:
        raise UserError(f"--seed: expected a whole number >= 0, got {seed}")
    if not 0 <= length_ratio <= 1:
        raise UserError(f"--length_ratio: expected a number in [0, 1], got {length_ratio}")
    if dilation is not None and dilation < 0:
        raise UserError(f"--dilation: expected pixels >= 0, got {dilation}")
    if num_classes is not None and not 2 <= num_classes <= UNLABELLED:
        raise UserError(f"--num_classes: expected 2 to {UNLABELLED}, background included, got {num_classes}")
