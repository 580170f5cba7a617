"""Compare methods on the same network, data, crops, steps and test settings; write a table and one HTML page.

With --tries N the settings of every method are chosen first, out of N, on every sixth image of the training list; with
--folds K on all of its images, by a cross-validation. It skips finished runs and continues interrupted ones.
"""

import argparse
import sys
from pathlib import Path

from spml.cli.interruption import interruption
from spml.cli.options import add, add_config
from spml.cli.parser import Parser, positive
from spml.inference.predictors import PREDICTORS
from spml.pipelines.compare import compare
from spml.pipelines.compare_report import REPORT
from spml.pipelines.methods import DEFAULT, METHODS, SUMS
from spml.pipelines.result import failures, summary
from spml.pipelines.stage import quoted


def add_arguments(parser: Parser) -> None:
    add_config(parser)
    add(parser, "save_dir", help="gets <annotation>/<method>/seed<i>/, result.json, report.md and report.html")
    add(parser, "seeds")
    add(parser, "methods", default=list(DEFAULT), help=f"which to run, by commas, out of {', '.join(METHODS)}; {SUMS}")
    add(parser, "methods_file", "annotation", "masks", "tries", "folds")
    add(parser, "predictor", default="softmax", choices=tuple(PREDICTORS), help="whose mIoU on dev chooses")
    add(parser, "dry", help="print the runs and their settings, and train none")
    add(parser, "processes", type=positive, default=1, help="runs side by side")


def main(args: argparse.Namespace) -> int:
    names = [name for name, _ in args.annotation]
    if len(set(names)) < len(names):
        args.error(f"--annotation: expected different names, got {', '.join(names)}")
    try:
        result = compare(
            *(args.config, args.save_dir, args.seeds, args.methods, args.overrides, args.device, interruption),
            annotations=dict(args.annotation),
            masks=args.masks,
            tries=args.tries,
            folds=args.folds,
            predictor=args.predictor,
            processes=args.processes,
            methods_file=args.methods_file,
            command=quoted([Path(sys.argv[0]).name.replace("__main__.py", "spml"), *sys.argv[1:]]),
            dry=args.dry,
        )
    except KeyboardInterrupt:
        print(f"stopped; what is finished is kept in {args.save_dir}: the same command goes on", file=sys.stderr)
        raise
    if args.dry:
        return 0
    print(f"{summary(result)}\n{Path(args.save_dir) / REPORT}")
    return 1 if failures(result) else 0
