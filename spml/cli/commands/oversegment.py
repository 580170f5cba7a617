"""Over-segmentations of images, for the low-level image similarity: one PNG of region ids an image."""

import argparse

from spml.cli.options import add
from spml.cli.parser import Parser
from spml.data.oversegment import MAX_SEGMENTS, METHODS
from spml.data.oversegment_list import oversegment_list


def add_arguments(parser: Parser) -> None:
    add(parser, "data_dir", required=True)
    add(parser, "data_list", required=True, help="list of `image [mask [instance]]`")
    add(parser, "save_dir", help="gets <name>.png; files of the same options and images are kept")
    add(parser, "method", choices=METHODS)
    add(parser, "threshold", default=1.2, help="height of the cut; higher: fewer regions")
    add(parser, "max_segments", default=MAX_SEGMENTS)
    add(parser, "num_workers", "list_out")
    add(parser, "overwrite", help="replace over-segmentations of other options or images")


def main(args: argparse.Namespace) -> None:
    made = oversegment_list(
        *(args.data_dir, args.data_list, args.save_dir),
        method=args.method,
        threshold=args.threshold,
        max_segments=args.max_segments,
        num_workers=args.num_workers,
        overwrite=args.overwrite,
        list_out=args.list_out,
    )
    print(f"{made} over-segmentations written to {args.save_dir}")
