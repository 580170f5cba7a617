"""CAM files as labels of tags (1 - max)^6 against 0.2, or of boxes: 0.5 of each box's own range."""

import argparse

from spml.classes import class_names
from spml.cli.options import add
from spml.cli.parser import Parser
from spml.propagate.cam import ALPHA
from spml.pseudo.cam_labels import KINDS, convert_cams


def add_arguments(parser: Parser) -> None:
    add(parser, "cam_dir", required=True, help="folder of <name>.npy: a dict of class index to (H, W)")
    add(parser, "save_dir", help="VOC2012/cam/seam_a6_th0.2, for boxes VOC2012/cam/seambox_a6_th0.5")
    add(parser, "kind", choices=KINDS, help="what the labels follow from beside CAMs")
    add(parser, "image_dir", help="for tag: VOC2012/JPEGImages")
    add(parser, "box_dir")
    add(parser, "alpha", default=ALPHA, help="for tag: exponent of the background's score")
    add(parser, "threshold", help="least score of a label; left out: 0.2 tag, 0.5 box")
    add(parser, "classes", help="file of class names, one a line, in place of VOC's")
    add(parser, "num_workers", "overwrite")


def main(args: argparse.Namespace) -> None:
    written = convert_cams(
        *(args.cam_dir, args.save_dir, args.kind, class_names(path=args.classes, dataset="VOC2012")),
        image_dir=args.image_dir,
        box_dir=args.box_dir,
        alpha=args.alpha,
        threshold=args.threshold,
        num_workers=args.num_workers,
        overwrite=args.overwrite,
    )
    print(written)
