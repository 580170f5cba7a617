"""ScribbleSup's XML as label PNGs: scribbles, shortened scribbles, or points (--length_ratio 0 --dilation 6)."""

import argparse

from spml.classes import class_names
from spml.cli.options import add
from spml.cli.parser import Parser
from spml.data.prepare.drawings import convert_drawings


def add_arguments(parser: Parser) -> None:
    add(parser, "source_dir", help="folder of ScribbleSup's <name>.xml")
    add(parser, "image_dir", required=True)
    add(parser, "save_dir", help="VOC2012/scribble/dilate_3, for points VOC2012/scribble/dilate_6_0.0")
    add(parser, "dilation", default=3, help="pen radius in pixels; released: 3, for points 6")
    add(parser, "length_ratio")
    add(parser, "classes", help="file of class names, one a line, in place of VOC's")
    add(parser, "num_workers", "overwrite")


def main(args: argparse.Namespace) -> None:
    written = convert_drawings(
        *(args.source_dir, args.image_dir, args.save_dir, class_names(path=args.classes, dataset="VOC2012")),
        dilation=args.dilation,
        length_ratio=args.length_ratio,
        num_workers=args.num_workers,
        overwrite=args.overwrite,
    )
    print(written)
