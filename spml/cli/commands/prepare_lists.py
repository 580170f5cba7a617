"""Write the data lists of VOC or DensePose, with the released names, from the folders of a data root."""

import argparse

from spml.cli.options import add
from spml.cli.parser import Parser
from spml.data.prepare.check import PLANS, data_plans
from spml.data.prepare.layout import DataRoot, write_lists


def add_arguments(parser: Parser) -> None:
    add(parser, "data_dir", required=True, help="folder with VOC2012/ and sbd/, or with images/ and segcls/")
    add(parser, "dataset", choices=list(PLANS))
    add(parser, "save_dir", required=False, help="gets <list>.txt; left out: datasets/<dataset>")


def main(args: argparse.Namespace) -> None:
    root = DataRoot(args.data_dir)
    print(write_lists(data_plans(args.dataset, root), root, args.save_dir or f"datasets/{args.dataset}"))
