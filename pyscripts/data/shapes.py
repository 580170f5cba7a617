"""Make the built-in data set: drawn scenes with exact masks, points, scribbles, boxes, tags and over-segmentations."""

import argparse
import os

from spml.cli.exits import run
from spml.data.shapes import make_shapes
from spml.evaluation.colour_baseline import colour_baseline


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--save_dir", required=True, help="folder to write; the same data there already is kept")
    parser.add_argument("--num_train", type=int, default=300, help="training images")
    parser.add_argument("--num_val", type=int, default=80, help="validation images")
    parser.add_argument("--seed", type=int, default=0, help="another seed draws other scenes")
    parser.add_argument(
        "--overwrite", action="store_true", help="replace other data that this script made in --save_dir"
    )
    parser.add_argument("--processes", type=int, default=min(8, os.cpu_count() or 1), help="that draw at the same time")
    parser.add_argument("--colour_baseline", action="store_true", help="print the mIoU that colours alone reach")
    args = parser.parse_args()
    counts = (args.num_train, args.num_val, args.seed)
    made = make_shapes(args.save_dir, *counts, overwrite=args.overwrite, processes=args.processes)
    state = "wrote" if made else "kept the complete data:"
    print(f"{state} {args.num_train} training and {args.num_val} validation images in {args.save_dir}")
    if args.colour_baseline:
        print(f"colour baseline: mIoU {100 * colour_baseline(args.save_dir):.1f} %")


if __name__ == "__main__":
    run(main)
