"""Over-segmentations of images, for the low-level image similarity: one PNG of region ids an image."""

import argparse

from spml.cli.exits import run
from spml.data.oversegment import MAX_SEGMENTS, METHODS
from spml.data.oversegment_list import oversegment_list


def main(argv: list[str] | None = None) -> None:
    """Read the command line, over-segment, print how many files were made."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--data_dir", required=True, help="folder that the paths of the list are relative to")
    parser.add_argument("--data_list", required=True, help="list of `image [mask [instance]]`")
    parser.add_argument("--save_dir", required=True, help="gets <name>.png; files that are there already are kept")
    parser.add_argument("--method", default="hierarchy", choices=METHODS, help="hierarchy: watershed regions, merged")
    parser.add_argument("--threshold", type=float, default=1.2, help="height of the cut; higher: fewer regions")
    parser.add_argument("--max_segments", type=int, default=MAX_SEGMENTS, help="most regions of an image")
    parser.add_argument("--num_workers", type=int, default=argparse.SUPPRESS, help="processes (default: one a core)")
    parser.add_argument("--overwrite", action="store_true", help="make files again that are there already")
    parser.add_argument("--list_out", default=argparse.SUPPRESS, help="list to write: `image mask over-segmentation`")
    args = vars(parser.parse_args(argv))
    made = oversegment_list(**args)
    print(f"{made} over-segmentations written to {args['save_dir']}")


if __name__ == "__main__":
    run(main)
