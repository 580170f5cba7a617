"""The data lists of VOC or DensePose, with the released names, from the folders of a data root."""

import argparse

from spml.cli.exits import run
from spml.data.prepare.check import PLANS, data_plans
from spml.data.prepare.layout import DataRoot, write_lists


def main(argv: list[str] | None = None) -> None:
    """Read the command line, write the lists, print a table of them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--data_dir", required=True, help="folder with VOC2012/ and sbd/, or with images/ and segcls/")
    parser.add_argument("--dataset", required=True, choices=list(PLANS), help="which layout and lists")
    parser.add_argument("--save_dir", default=None, help="gets <list>.txt; left out: datasets/<dataset>")
    args = parser.parse_args(argv)
    root = DataRoot(args.data_dir)
    print(write_lists(data_plans(args.dataset, root), root, args.save_dir or f"datasets/{args.dataset}"))


if __name__ == "__main__":
    run(main)
