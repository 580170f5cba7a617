"""The command line of the benchmark scripts: a table, a JSON file, and an exit status that pins a result."""

from __future__ import annotations

import argparse
import json

import numpy as np

from spml.classes import class_names
from spml.errors import UserError
from spml.evaluation.folders import Evaluation, evaluate_folder
from spml.files import write_atomically
from spml.visualize.report import table


def benchmark(description: str, by_instance: bool, arguments: list[str] | None = None) -> int:
    """Evaluate the folders that the command line names and print the IoU of each class, in per cent.

    Args:
        description: what `--help` says of the script.
        by_instance: weight each image's IoU by its instances.
        arguments: the command line; None = that of the process.

    Returns:
        The exit status: 1 where the mean IoU is outside `--expect` +- `--tolerance`, else 0.

    Raises:
        UserError: as `evaluate_folder`.
    """
    options = _parser(description, by_instance).parse_args(arguments)
    if options.tolerance < 0:
        raise UserError(f"--tolerance must be at least 0 points, got {options.tolerance}")
    found = evaluate_folder(
        options.pred_dir,
        options.gt_dir,
        inst_dir=options.inst_dir if by_instance else None,
        data_list=options.data_list,
        data_dir=options.data_dir,
        classes=class_names(options.num_classes, options.classes),
        by_instance=by_instance,
    )
    print(summary(found))
    if options.json is not None:
        content = json.dumps(found.as_percent(), indent=2) + "\n"
        write_atomically(options.json, lambda file: file.write(content.encode()))
    return 0 if options.expect is None else _verdict(found.mean_iou, options.expect, options.tolerance)


def summary(found: Evaluation) -> str:
    """The table of an evaluation: a line for each class, then the mean and the pixel accuracy, in per cent."""
    rows = [(name, _show(share)) for name, share in zip(found.classes, found.iou, strict=True)]
    rows += [("mean", _show(found.mean_iou)), ("pixel accuracy", _show(found.pixel_accuracy))]
    return table(rows, ("class", f"{found.measure} %")) + f"\n{found.num_images} images"


def _verdict(mean_iou: float, expect: float, tolerance: float) -> int:
    inside = bool(abs(100 * mean_iou - expect) <= tolerance)  # false for NaN
    relation = "within" if inside else "OUTSIDE"
    print(f"mean IoU {_show(mean_iou)} is {relation} the expected {expect:g} +- {tolerance:g}")
    return 0 if inside else 1


def _show(share: float) -> str:
    return "-" if np.isnan(share) else f"{100 * share:.2f}"


def _parser(description: str, by_instance: bool) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter, allow_abbrev=False
    )
    add = parser.add_argument
    add("--pred_dir", required=True, help="folder of predicted class ids, such as <save_dir>/semantic_gray")
    add("--gt_dir", help="folder of ground truth class ids; values from num_classes up, such as 255, do not count")
    without = "connected patches of a class without" if by_instance else "not read here: benchmark_by_instance.py does"
    add("--inst_dir", help=f"folder of instance ids; {without}")
    add("--data_list", help="in place of --gt_dir: a list of `image semantic [instance]` lines to evaluate")
    add("--data_dir", default=".", help="what the paths in --data_list are relative to")
    add("--num_classes", type=int, help="number of classes; as many as --classes names, else 21")
    add("--classes", help="file of class names, one a line; VOC's for 21 classes, DensePose's for 15")
    add("--expect", type=float, help="mean IoU in per cent that must come out; else exit status 1")
    add("--tolerance", type=float, default=0.5, help="points that the mean IoU may differ from --expect")
    add("--json", help="also write the result to this file, in per cent")
    return parser
