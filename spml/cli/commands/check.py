"""Walk a data root and say in a table what is missing; exit status 1 if anything is."""

import argparse

from spml.cli.options import add
from spml.cli.parser import Parser
from spml.data.prepare.check import PLANS, check_root


def add_arguments(parser: Parser) -> None:
    add(parser, "data_dir", required=True, help="folder with VOC2012/ and sbd/, or with images/ and segcls/")
    add(parser, "dataset", choices=list(PLANS))
    add(parser, "list_dir", "experiments")


def main(args: argparse.Namespace) -> int:
    lists = args.list_dir or f"datasets/{args.dataset}"
    report, complete = check_root(args.data_dir, args.dataset, lists, args.experiments)
    print(report)
    return 0 if complete else 1
