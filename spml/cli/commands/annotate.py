"""Make weak annotations (scribbles, points, boxes, tags) from full masks, with a seed."""

import argparse

from spml.classes import class_names, means_background
from spml.cli.options import add
from spml.cli.parser import Parser
from spml.data.annotate_list import BESIDE, KINDS, annotate_list


def add_arguments(parser: Parser) -> None:
    add(parser, "data_dir", required=True)
    add(parser, "data_list", required=True, help="list of `image mask [instance mask]`")
    add(parser, "save_dir", help="gets <kind>/<name>.png and <list>_<kind>.txt")
    add(parser, "kind", choices=KINDS, help="tag writes tags.txt and a list of images")
    add(parser, "seed", help="with an image's name it fixes the image's annotation")
    add(parser, "length_ratio", help="part of each scribble's length, 0 to 1")
    add(parser, "dilation", help="pen radius, pixels; left out: 3 scribble, 6 point")
    classes = parser.add_mutually_exclusive_group()
    add(classes, "num_classes", help="mask values from here on stay unlabelled")
    add(classes, "classes", help="file of class names, one a line, in place of --num_classes")
    add(parser, "background")
    add(parser, "instance_dir", help="folder of over-segmentations, for the third column")
    add(parser, "num_workers")
    add(parser, "overwrite", help="replace annotations of other options, masks or images")


def main(args: argparse.Namespace) -> None:
    names = class_names(path=args.classes) if args.classes else ()
    written = annotate_list(
        *(args.data_dir, args.data_list, args.save_dir, args.kind),
        seed=args.seed,
        length_ratio=args.length_ratio,
        dilation=args.dilation,
        num_classes=len(names) or args.num_classes,
        background=args.background,
        classes=names,
        instance_dir=args.instance_dir,
        num_workers=args.num_workers,
        overwrite=args.overwrite,
    )
    if args.kind in BESIDE and args.background is not None and names and not means_background(names[args.background]):
        print(
            f"note: class {args.background} ({names[args.background]}) counts as background, which is no {args.kind}: "
            "where it is a class as any other, say --background none"
        )
    print(written)
