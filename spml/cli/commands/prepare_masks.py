"""Convert full masks of VOC (palette or RGB PNG) and SBD (MATLAB files) to grey PNGs of class ids."""

import argparse

from spml.cli.options import add
from spml.cli.parser import Parser
from spml.data.prepare.masks import convert_masks


def add_arguments(parser: Parser) -> None:
    add(parser, "source_dir", help="VOC2012/SegmentationClass or sbd/dataset/cls")
    add(parser, "save_dir", help="VOC2012/segcls or sbd/dataset/clsimg; gets <name>.png")
    add(parser, "num_classes", default=21, help="other values than 255 from here on are an error")
    add(parser, "num_workers", "overwrite")


def main(args: argparse.Namespace) -> None:
    more = {"num_classes": args.num_classes, "num_workers": args.num_workers, "overwrite": args.overwrite}
    print(convert_masks(args.source_dir, args.save_dir, **more))
