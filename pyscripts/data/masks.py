"""Full masks of VOC (palette or RGB PNG) and SBD (MATLAB files) as grey PNGs of class ids."""

import argparse

from spml.cli.exits import run
from spml.data.prepare.masks import convert_masks


def main(argv: list[str] | None = None) -> None:
    """Read the command line, convert, print how many files were made."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--source_dir", required=True, help="VOC2012/SegmentationClass or sbd/dataset/cls")
    parser.add_argument("--save_dir", required=True, help="VOC2012/segcls or sbd/dataset/clsimg; gets <name>.png")
    parser.add_argument("--num_classes", type=int, default=21, help="other values than 255 from here on are an error")
    parser.add_argument("--num_workers", type=int, default=argparse.SUPPRESS, help="processes (default: one a core)")
    parser.add_argument("--overwrite", action="store_true", help="make files again that are there already")
    print(convert_masks(**vars(parser.parse_args(argv))))


if __name__ == "__main__":
    run(main)
