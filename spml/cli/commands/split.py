"""A list to choose settings on, taken out of a training list: every sixth line to <list>_dev.txt, the rest to _fit."""

import argparse

from spml.cli.options import add
from spml.cli.parser import Parser
from spml.data.lists import split_list


def add_arguments(parser: Parser) -> None:
    add(parser, "data_list", required=True, help="the training list")
    add(parser, "save_dir", required=False, help="gets both lists; left out: the folder of the list")
    add(parser, "every")


def main(args: argparse.Namespace) -> None:
    print(*split_list(args.data_list, args.save_dir, args.every), sep="\n")
