"""Annotates a whole data list: writes PNGs and the list that training reads."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from spml import records
from spml.data.annotate import Array, Box, box_label, boxes, points, sample_seed, scribbles, tags
from spml.data.lists import (
    check_unique_names,
    given_entries,
    join_entries,
    list_content,
    read_list,
    relative_path,
    write_list,
)
from spml.data.samples import UNLABELLED, DataError, Sample, read_label, read_sample_files
from spml.data.work import count_workers, each, hash_parts
from spml.errors import UserError
from spml.files import write_atomically
from spml.visualize.pictures import PICTURES, annotation_picture, chosen, tags_picture

KINDS = ("scribble", "point", "box", "tag")
DILATION = {"scribble": 3, "point": 6, "box": 0, "tag": 0}  # pixels, as the released annotations
BESIDE = {"box": "boxes.json", "tag": "tags.txt"}  # what is written of the whole list
IMAGES_PER_PROCESS = 50  # fewer are not worth the start of a process


@dataclass(frozen=True)
class How:
    """The options of annotations: everything that they depend on beside masks and names."""

    kind: str
    seed: int
    length_ratio: float
    dilation: int
    num_classes: int
    background: int | None

    @property
    def folder(self) -> str:
        """The folder of the annotations: the kind, with the length of shortened scribbles."""
        whole = self.kind != "scribble" or self.length_ratio == 1
        return self.kind if whole else f"{self.kind}_{self.length_ratio:g}"


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
    classes: Sequence[str] = (),
    instance_dir: str | Path | None = None,
    num_workers: int | None = None,
    overwrite: bool = False,
) -> Path:
    """Make the weak annotations of every sample of a list `image mask [instance]`.

    Each kind has a folder `save_dir/<kind>` with a record of its origin, and `pictures` of some images. An interrupted
    run can continue. A run with other options, masks or images stops with an error, unless `overwrite` is set.

    Args:
        kind: `scribble`, `point` or `box` write `save_dir/<kind>/<name>.png` (uint8, 254 unlabelled), `box` also
            `save_dir/boxes.json` (name -> list of class, x0, y0, x1, y1; the last two lie outside); `tag` writes
            `save_dir/tags.txt` (name and classes of each image) and no PNG.
        length_ratio: the drawn part of each scribble; below 1 the folder is `<kind>_<length_ratio>`.
        dilation: pixels; None: 3 for scribbles, 6 for points.
        num_classes: mask values of this number and above are not annotated; None: every value below 254 is a class.
        background: the class that gets neither tag nor box; None: every class gets them.
        classes: names, for the pictures.
        instance_dir: folder of over-segmentations `<name>.png` to name in the third column.
        num_workers: processes; None: one for each core, fewer for short lists. 0 and 1 work in this process.
        overwrite: make existing annotations again.

    Returns: the list written, `save_dir/<stem of data_list>_<kind>.txt`, its paths relative to `data_dir`.
    Raises: UserError for options out of range, files that cannot be read, paths that a list cannot hold, and a folder
        that holds other annotations.
    """
    radius = DILATION.get(kind, 0) if dilation is None else dilation
    how = How(kind, seed, float(length_ratio), radius, UNLABELLED if num_classes is None else num_classes, background)
    _check(how)
    count_workers(num_workers, 0)
    samples = read_list(data_list, data_dir, columns=2)
    check_unique_names(samples)
    folder, list_path = Path(save_dir) / how.folder, Path(save_dir) / f"{Path(data_list).stem}_{how.folder}.txt"
    pictures = [None if kind == "tag" else folder / f"{sample.name}.png" for sample in samples]
    rows = _rows(samples, pictures, Path(data_dir), instance_dir)
    list_content(list_path, rows)  # a path that it cannot hold shows before the work
    beside = Path(save_dir) / BESIDE[kind] if kind in BESIDE else None
    files = [path for path in (*pictures, beside) if path is not None]
    contents = hash_parts(samples, "label", "regions")
    record = records.record_of("annotations", {"how": how}, contents, list=str(data_list))
    before = records.read(folder)
    if before is None and beside is not None and beside.is_file() and not overwrite:
        records.refuse_foreign(beside)
    ours = before == record
    complete = records.start(folder, record, made=("*.png", f"{PICTURES}/*.png"), overwrite=overwrite)
    write_list(list_path, rows)
    if complete and not overwrite and all(path.is_file() for path in files):
        return list_path
    records.reopen(folder)
    tasks = [(sample, path, ours and not overwrite) for sample, path in zip(samples, pictures, strict=True)]
    workers = count_workers(num_workers, len(tasks), IMAGES_PER_PROCESS)
    lines = list(each(partial(_annotate, how=how), tasks, workers, kind))
    if beside is not None:
        content = "{" + ",\n".join(lines) + "}\n" if kind == "box" else "".join(lines)
        write_atomically(beside, lambda file: file.write(content.encode()))
    for sample, path in chosen(list(zip(samples, pictures, strict=True))):
        _picture(sample, path, folder / PICTURES / f"{sample.name}.png", how, classes)
    records.finish(folder, images=len(samples))
    return list_path


def _annotate(sample: Sample, path: Path | None, kept: bool, how: How) -> str:
    """Write the annotation of one image, unless it exists and may be `kept`.

    Returns: its entry of boxes.json or its line of tags.txt, else nothing.
    """
    if kept and path is not None and path.is_file() and how.kind != "box":
        return ""
    _, mask, instance = read_sample_files(sample)
    assert mask is not None
    own, line = sample_seed(sample.name, how.seed), ""
    options: dict = {"num_classes": how.num_classes, "background": how.background}
    if how.kind == "tag":
        return join_entries([sample.name, *map(str, tags(mask, **options))]) + "\n"
    if how.kind == "box":
        found = boxes(mask, instance, **options)
        line = f"{json.dumps(sample.name)}: {json.dumps([_box_entry(box) for box in found])}"
        label = box_label(found, mask.shape, background=how.background)
    elif how.kind == "point":
        label = points(mask, instance, seed=own, dilation=how.dilation, **options)
    else:
        options |= {"length_ratio": how.length_ratio, "dilation": how.dilation}
        label = scribbles(mask, instance, seed=own, **options)
    assert path is not None
    write_label(path, label)
    return line


def _picture(sample: Sample, path: Path | None, target: Path, how: How, classes: Sequence[str]) -> None:
    """A picture of an image with its annotation, or with the names of its tags."""
    image, mask, _ = read_sample_files(sample)
    assert mask is not None
    if path is None:
        found = tags(mask, num_classes=how.num_classes, background=how.background)
        tags_picture(image, found, target, classes, how.background)
    else:
        annotation_picture(image, read_label(path), target, classes, how.background)


def _box_entry(box: Box) -> dict[str, int]:
    return dict(zip(("class", "x0", "y0", "x1", "y1"), box, strict=True))


def write_label(path: Path, label: Array) -> None:
    """Write a label (H, W) as an 8-bit grey PNG, atomically."""
    write_atomically(path, lambda file: Image.fromarray(label.astype(np.uint8)).save(file, format="PNG"))


def label_rows(samples: Sequence[Sample], folder: str | Path, data_dir: str | Path) -> list[list[str]]:
    """The lines of a list of new labels `folder/<name>.png`: `image label [instance]`, relative to `data_dir`.

    Args:
        samples: their entries of image and instance stay as in their own lists.
    """
    data_dir = Path(data_dir).expanduser()
    entry = relative_path(Path(folder), data_dir)
    rows = []
    for sample in samples:
        image, *instance = given_entries(sample, data_dir, "image", "regions")
        rows.append([image, f"{entry}/{sample.name}.png", *instance])
    return rows


def _rows(
    samples: Sequence[Sample], pictures: Sequence[Path | None], data_dir: Path, instance_dir: str | Path | None
) -> list[list[str]]:
    """The lines of the new list. Images keep their entry; `instance_dir` adds a third column to lists with labels."""
    rows = []
    for sample, picture in zip(samples, pictures, strict=True):
        row = given_entries(sample, data_dir, "image")
        if picture is not None:
            row.append(relative_path(picture, data_dir))
        if instance_dir is not None and picture is not None:
            instance = Path(instance_dir) / f"{sample.name}.png"
            if not instance.is_file():
                raise DataError(f"{sample.where}: no over-segmentation {instance}; make it with `spml oversegment`")
            row.append(relative_path(instance, data_dir))
        rows.append(row)
    return rows


def _check(how: How) -> None:
    if how.kind not in KINDS:
        raise UserError(f"--kind: expected one of {', '.join(KINDS)}, got {how.kind!r}")
    if how.length_ratio != 1 and how.kind != "scribble":
        raise UserError(f"--length_ratio is for --kind scribble, got {how.kind}")
    if how.seed < 0:
        raise UserError(f"--seed: expected a whole number >= 0, got {how.seed}")
    if not 0 <= how.length_ratio <= 1:
        raise UserError(f"--length_ratio: expected a number in [0, 1], got {how.length_ratio:g}")
    if how.dilation < 0:
        raise UserError(f"--dilation: expected pixels >= 0, got {how.dilation}")
    if not 2 <= how.num_classes <= UNLABELLED:
        raise UserError(f"--num_classes: expected 2 to {UNLABELLED}, background included, got {how.num_classes}")
    if how.background is not None and not 0 <= how.background < how.num_classes:
        raise UserError(f"--background: expected a class or none, got {how.background}")
