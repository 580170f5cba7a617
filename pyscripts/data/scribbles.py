"""ScribbleSup's XML as label PNGs: scribbles, shortened scribbles, or points (--length_ratio 0 --dilation 6)."""

import argparse

from spml.classes import class_names
from spml.cli.exits import run
from spml.data.prepare.drawings import convert_drawings


def main(argv: list[str] | None = None) -> None:
    """Read the command line, draw, print how many files were made."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--source_dir", required=True, help="folder of ScribbleSup's <name>.xml")
    parser.add_argument("--image_dir", required=True, help="VOC2012/JPEGImages")
    parser.add_argument(
        "--save_dir", required=True, help="VOC2012/scribble/dilate_3, for points VOC2012/scribble/dilate_6_0.0"
    )
    parser.add_argument("--dilation", type=int, default=3, help="pen radius in pixels; released: 3, for points 6")
    parser.add_argument("--length_ratio", type=float, default=1.0, help="part of each line, 0 to 1; 0: its middle")
    parser.add_argument("--classes", default=None, help="file of class names, one a line, in place of VOC's")
    parser.add_argument("--num_workers", type=int, default=argparse.SUPPRESS, help="processes (default: one a core)")
    parser.add_argument("--overwrite", action="store_true", help="make files again that are there already")
    args = vars(parser.parse_args(argv))
    print(convert_drawings(**{**args, "classes": class_names(path=args["classes"], dataset="VOC2012")}))


if __name__ == "__main__":
    run(main)
