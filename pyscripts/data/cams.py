"""CAM files as labels of tags (1 - max)^6 against 0.2, or of boxes: 0.5 of each box's own range."""

import argparse

from spml.classes import class_names
from spml.cli.exits import run
from spml.pseudo.cam_labels import KINDS, convert_cams


def main(argv: list[str] | None = None) -> None:
    """Read the command line, convert, print how many files were made."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--cam_dir", required=True, help="folder of <name>.npy: a dict of class index to (H, W)")
    parser.add_argument(
        "--save_dir", required=True, help="VOC2012/cam/seam_a6_th0.2, for boxes VOC2012/cam/seambox_a6_th0.5"
    )
    parser.add_argument("--kind", required=True, choices=KINDS, help="what the labels follow from beside CAMs")
    parser.add_argument("--image_dir", default=None, help="for tag: VOC2012/JPEGImages")
    parser.add_argument("--box_dir", default=None, help="for box: VOC2012/Annotations")
    parser.add_argument("--alpha", type=float, default=6.0, help="for tag: exponent of the background's score")
    parser.add_argument(
        "--threshold", type=float, default=argparse.SUPPRESS, help="least score of a label (default: 0.2 tag, 0.5 box)"
    )
    parser.add_argument("--classes", default=None, help="file of class names, one a line, in place of VOC's")
    parser.add_argument("--num_workers", type=int, default=argparse.SUPPRESS, help="processes (default: one a core)")
    parser.add_argument("--overwrite", action="store_true", help="make files again that are there already")
    args = vars(parser.parse_args(argv))
    print(convert_cams(**{**args, "classes": class_names(path=args["classes"], dataset="VOC2012")}))


if __name__ == "__main__":
    run(main)
