"""Split a training list: every sixth line goes to <list>_dev.txt, to choose settings on, the rest to <list>_fit.txt."""

import argparse

from spml.cli.options import add
from spml.cli.parser import Parser
from spml.data.lists import split_list


def add_arguments(parser: Parser) -> None:
    add(parser, "data_list", required=True, help="the training list")
    add(parser, "save_dir", required=False, help="gets both lists; left out: the folder of the list")
    add(parser, "every", "part")
    add(parser, "overwrite", help="replace lists of these names")


def main(args: argparse.Namespace) -> None:
    print(*split_list(args.data_list, args.save_dir, args.every, args.part, overwrite=args.overwrite), sep="\n")
