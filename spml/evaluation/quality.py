"""How the labels of a pipeline's stages grow: their mIoU against masks, kept in one JSON file and printed as one table.

A diagnostic: nothing may be chosen by it, or the masks that weak supervision goes without decide.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from spml.data.samples import read_label
from spml.errors import UserError
from spml.evaluation.folders import pair_files
from spml.evaluation.iou import ConfusionMatrix
from spml.files import read_json, write_json
from spml.progress import progress as counted
from spml.visualize.report import table

HEADER = ("labels", "images", "mIoU %", "labelled %", "right of these %")


def label_quality(
    pred_dir: str | Path, data_list: str | Path, data_dir: str | Path, num_classes: int, progress: bool = True
) -> dict[str, object]:
    """Compare a folder of labels, which may leave pixels out, with the masks of a list.

    Args:
        pred_dir: `<name>.png` with class ids; any value from num_classes on, such as 254, is no label.
        data_list: lines `image mask`, relative to `data_dir`; mask values from num_classes on do not count.

    Returns:
        `images`, their number, and in per cent (None where nothing counts): `mean_iou` over all pixels, those without a
        label being wrong; `labelled`, the share of pixels with a label; `accuracy`, the share of these that is right.

    Raises:
        UserError: files that are missing, cannot be read, or are of another size than their mask.
    """
    confusion, files = ConfusionMatrix(num_classes), pair_files(pred_dir, data_list=data_list, data_dir=data_dir)
    for file in counted(files, "quality", quiet=not progress):
        label, mask = read_label(file.prediction), read_label(file.target)
        if label.shape != mask.shape:
            raise UserError(f"sizes (H, W) differ: {file.prediction} is {label.shape}, {file.target} is {mask.shape}")
        confusion.update(label, mask)
    labelled, total = int(confusion.counts[:, :num_classes].sum()), int(confusion.counts.sum())
    return {
        "images": len(files),
        "mean_iou": _percent(confusion.mean_iou()),
        "labelled": _percent(labelled / total if total else np.nan),
        "accuracy": _percent(np.trace(confusion.counts) / labelled if labelled else np.nan),
    }


def benchmark_result(path: str | Path) -> dict[str, object]:
    """The row of a JSON file that `benchmark_by_mIoU.py` wrote. Raises UserError where it is no such file."""
    found = _read(path)
    if not {"mean_iou", "num_images"} <= set(found):
        raise UserError(f"{path}: expected mean_iou and num_images, as benchmark_by_mIoU.py writes them")
    return {"images": found["num_images"], "mean_iou": found["mean_iou"], "labelled": None, "accuracy": None}


def record(path: str | Path, rows: Mapping[str, Mapping[str, object]]) -> dict[str, dict]:
    """Add rows to a quality file, in place of those of the same name, and return all, by name in the order added.

    Raises:
        UserError: a file that holds something else, or cannot be written.
    """
    path = Path(path)
    held = _read(path) if path.is_file() else {}
    if not all(isinstance(row, dict) and "mean_iou" in row for row in held.values()):
        raise UserError(f"{path}: expected the rows of a quality file")
    for name, row in rows.items():
        held[name] = dict(row)
    if rows:
        write_json(path, held)
    return held


def quality_table(rows: Mapping[str, Mapping[str, object]]) -> str:
    """The table of a quality file."""
    cells: list[Sequence[object]] = []
    for name, row in rows.items():
        cells.append((name, row.get("images"), *(_show(row.get(key)) for key in ("mean_iou", "labelled", "accuracy"))))
    return table(cells, HEADER)


def _read(path: str | Path) -> dict:
    found = read_json(path, "the rows of a quality file")
    if not isinstance(found, dict):
        raise UserError(f"{path}: expected a JSON object, got {type(found).__name__}")
    return found


def _percent(share: float) -> float | None:
    return None if np.isnan(share) else round(100 * float(share), 2)


def _show(value: object) -> str:
    return "-" if value is None else f"{value:.1f}"
