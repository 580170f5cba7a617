"""Make the built-in data set: drawn scenes with exact masks, points, scribbles, boxes, tags and over-segmentations."""

import argparse
import os

from spml.cli.options import add
from spml.cli.parser import Parser
from spml.data.shapes import make_shapes
from spml.evaluation.colour_baseline import colour_baseline


def add_arguments(parser: Parser) -> None:
    add(parser, "save_dir", help="folder to write; the same data there already is kept")
    add(parser, "num_train", "num_val")
    add(parser, "seed", help="another seed draws other scenes")
    add(parser, "overwrite", help="replace other data that this command made in --save_dir")
    add(parser, "processes", default=min(8, os.cpu_count() or 1))
    add(parser, "colour_baseline")


def main(args: argparse.Namespace) -> None:
    counts = (args.num_train, args.num_val, args.seed)
    made = make_shapes(args.save_dir, *counts, overwrite=args.overwrite, processes=args.processes)
    state = "wrote" if made else "kept the complete data:"
    print(f"{state} {args.num_train} training and {args.num_val} validation images in {args.save_dir}")
    if args.colour_baseline:
        print(f"colour baseline: mIoU {100 * colour_baseline(args.save_dir):.1f} %")
