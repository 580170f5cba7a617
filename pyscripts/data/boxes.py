"""Boxes of VOC's XML files as boxes.json and as labels that need no CAM: background outside, a core inside."""

import argparse

from spml.classes import class_names
from spml.cli.exits import run
from spml.data.prepare.boxes import convert_boxes


def main(argv: list[str] | None = None) -> None:
    """Read the command line, convert, print how many files were made."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--source_dir", required=True, help="VOC2012/Annotations")
    parser.add_argument("--save_dir", required=True, help="gets boxes.json and box/<name>.png")
    parser.add_argument("--core", type=float, default=0.4, help="part of each box, an ellipse, that gets its class")
    parser.add_argument("--classes", default=None, help="file of class names, one a line, in place of VOC's")
    parser.add_argument("--num_workers", type=int, default=argparse.SUPPRESS, help="processes (default: one a core)")
    parser.add_argument("--overwrite", action="store_true", help="make files again that are there already")
    args = vars(parser.parse_args(argv))
    print(convert_boxes(**{**args, "classes": class_names(path=args["classes"], dataset="VOC2012")}))


if __name__ == "__main__":
    run(main)
