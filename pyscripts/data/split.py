"""A list to choose settings on, taken out of a training list: every sixth line to <list>_dev.txt, the rest to _fit."""

import argparse

from spml.cli.exits import run
from spml.data.lists import split_list


def main(argv: list[str] | None = None) -> None:
    """Read the command line, write both lists, print their paths."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--data_list", required=True, help="the training list")
    parser.add_argument("--save_dir", default=None, help="gets both lists; left out: the folder of the list")
    parser.add_argument("--every", type=int, default=6, help="of the sorted lines, one in so many is for choosing")
    args = parser.parse_args(argv)
    print(*split_list(args.data_list, args.save_dir, args.every), sep="\n")


if __name__ == "__main__":
    run(main)
