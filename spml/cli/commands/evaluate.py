"""Mean IoU of a folder of predictions: over all pixels of the data set, or by instance.

By instance, each image's IoU is weighted by its instances of the class.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from spml.classes import KNOWN_CLASSES, class_names
from spml.cli.options import OPTIONS, add
from spml.cli.parser import OVERRIDES, Parser
from spml.config import load_config
from spml.errors import UserError
from spml.evaluation.folders import Evaluation, evaluate_folder
from spml.evaluation.verdict import verdict
from spml.files import write_json
from spml.visualize.report import table


def add_arguments(parser: Parser) -> None:
    add(parser, "pred_dir", "gt_dir", "inst_dir", "by_instance")
    add(parser, "data_list", help="in place of --gt_dir: a list of `image semantic [instance]` lines to evaluate")
    add(parser, "config", required=False, help="in place of lists, classes and --expect: the config that has them")
    add(parser, "data_dir", help="what the paths of the list are relative to (default: this folder)")
    add(parser, "num_classes", help="number of classes; as many as --classes names, else 21")
    add(parser, "classes", help="file of class names, one a line; left out: class 0, class 1, ..")
    add(
        parser,
        "dataset",
        required=False,
        choices=tuple(KNOWN_CLASSES),
        help="in place of --classes: whose names it has",
    )
    add(parser, "expect", "tolerance", "json")
    parser.takes_overrides, parser.epilog = True, OVERRIDES


def main(args: argparse.Namespace) -> int:
    """Print the table of IoUs; 1 where the mean IoU is outside `--expect` +- `--tolerance`, else 0."""
    if args.tolerance < 0:
        raise UserError(f"--tolerance must be at least 0 points, got {args.tolerance}")
    if args.expect is None and args.tolerance != OPTIONS["tolerance"]["default"]:
        raise UserError("--tolerance is for --expect: expected that option, too")
    if args.inst_dir is not None and not args.by_instance:
        raise UserError("--inst_dir: only --by_instance reads instances: expected that option, too")
    expected = read_config(args)
    found = evaluate_folder(
        args.pred_dir,
        args.gt_dir,
        inst_dir=args.inst_dir,
        data_list=args.data_list,
        data_dir=args.data_dir or ".",
        classes=args.names,
        by_instance=args.by_instance,
    )
    print(summary(found))
    if args.json is not None:
        write_json(args.json, found.as_percent())
    if args.expect is not None:
        given = verdict(found.mean_iou, {"mean_iou": args.expect, "tolerance": args.tolerance})
        print(given.line)
        return 0 if given.inside else 1
    if expected is not None and not args.by_instance:
        print(verdict(found.mean_iou, expected, Path(args.data_list).stem if args.data_list else "").line)
    return 0


def read_config(args: argparse.Namespace) -> Any:
    """Fill in what the command line leaves to the config, class names as `args.names`; return what it expects."""
    if args.config is None:
        if args.overrides:
            raise UserError(f"{args.overrides[0]}: overrides are for --config, which is missing")
        args.names = class_names(args.num_classes, args.classes, args.dataset)
        return None
    config = load_config(args.config, args.overrides)
    data = config.dataset
    args.data_list = args.data_list or (None if args.gt_dir else data.test_data_list)
    args.data_dir = args.data_dir or data.data_dir
    if args.classes or args.num_classes or not data.class_names:
        count = args.num_classes or (None if args.classes else data.num_classes)
        args.names = class_names(count, args.classes, args.dataset or data.dataset)
    else:
        args.names = data.class_names
    return config.get("expected")


def summary(found: Evaluation) -> str:
    """The table of an evaluation: a line for each class, then the mean and the pixel accuracy, in per cent."""
    rows = [(name, _show(share)) for name, share in zip(found.classes, found.iou, strict=True)]
    rows += [("mean", _show(found.mean_iou)), ("pixel accuracy", _show(found.pixel_accuracy))]
    return table(rows, ("class", f"{found.measure} %")) + f"\n{found.num_images} images"


def _show(share: float) -> str:
    return "-" if np.isnan(share) else f"{100 * share:.2f}"
