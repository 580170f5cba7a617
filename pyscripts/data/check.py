"""Walk a data root and say in a table what is missing; exit status 1 if anything is."""

import argparse

from spml.cli.exits import run
from spml.data.prepare.check import PLANS, check_root


def main(argv: list[str] | None = None) -> int:
    """Read the command line, print the table, return the status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--data_dir", required=True, help="folder with VOC2012/ and sbd/, or with images/ and segcls/")
    parser.add_argument("--dataset", required=True, choices=list(PLANS), help="which layout and lists")
    parser.add_argument("--list_dir", default=None, help="folder of the lists; left out: datasets/<dataset>")
    parser.add_argument(
        "--experiments", nargs="+", default=[], help="tag box scribble point mask ..; left out: those of the pipelines"
    )
    args = parser.parse_args(argv)
    shown, complete = check_root(
        args.data_dir, args.dataset, args.list_dir or f"datasets/{args.dataset}", args.experiments
    )
    print(shown)
    return 0 if complete else 1


if __name__ == "__main__":
    run(main)
