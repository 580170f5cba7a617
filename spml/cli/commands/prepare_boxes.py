"""Boxes of VOC's XML files as boxes.json and as labels that need no CAM: background outside, a core inside."""

import argparse

from spml.classes import class_names
from spml.cli.options import add
from spml.cli.parser import Parser
from spml.data.prepare.boxes import convert_boxes


def add_arguments(parser: Parser) -> None:
    add(parser, "source_dir", help="VOC2012/Annotations")
    add(parser, "save_dir", help="gets boxes.json and box/<name>.png")
    add(parser, "core")
    add(parser, "classes", help="file of class names, one a line, in place of VOC's")
    add(parser, "num_workers", "overwrite")


def main(args: argparse.Namespace) -> None:
    more = {"core": args.core, "num_workers": args.num_workers, "overwrite": args.overwrite}
    print(convert_boxes(args.source_dir, args.save_dir, class_names(path=args.classes, dataset="VOC2012"), **more))
