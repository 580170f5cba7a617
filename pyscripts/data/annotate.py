"""Weak annotations (scribbles, points, boxes, tags) made from full masks, with a seed."""

import argparse

from spml.classes import class_names
from spml.cli.exits import run
from spml.data.annotate_list import KINDS, annotate_list


def main(argv: list[str] | None = None) -> None:
    """Read the command line, annotate, print the list written."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--data_dir", required=True, help="folder that the paths of the list are relative to")
    parser.add_argument("--data_list", required=True, help="list of `image mask [instance mask]`")
    parser.add_argument("--save_dir", required=True, help="gets <kind>/<name>.png and <list>_<kind>.txt")
    parser.add_argument("--kind", required=True, choices=KINDS, help="tag writes tags.txt and a list of images")
    parser.add_argument("--seed", type=int, default=0, help="with an image's name it fixes the image's annotation")
    parser.add_argument("--length_ratio", type=float, default=1.0, help="part of each scribble's length, 0 to 1")
    parser.add_argument(
        "--dilation", type=int, default=argparse.SUPPRESS, help="pen radius, pixels (default: 3 scribble, 6 point)"
    )
    classes = parser.add_mutually_exclusive_group()
    classes.add_argument(
        "--num_classes", type=int, default=argparse.SUPPRESS, help="mask values from here on stay unlabelled"
    )
    classes.add_argument(
        "--classes", default=argparse.SUPPRESS, help="file of class names, one a line, in place of --num_classes"
    )
    parser.add_argument(
        "--background", type=_class_or_none, default=0, help="class that gets no tag and no box; none: every class does"
    )
    parser.add_argument(
        "--instance_dir", default=argparse.SUPPRESS, help="folder of over-segmentations, for the third column"
    )
    args = vars(parser.parse_args(argv))
    names = args.pop("classes", None)
    if names:
        args["num_classes"] = len(class_names(path=names))
    print(annotate_list(**args))


def _class_or_none(word: str) -> int | None:
    return None if word == "none" else int(word)


if __name__ == "__main__":
    run(main)
