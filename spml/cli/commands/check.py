"""What a data root lacks, or with --config what the training data hold and what in them cannot be meant.

With --dataset it walks the data root of VOC or DensePose. Exit status 1 if anything is missing or cannot be meant.
"""

import argparse

from spml.cli.options import add
from spml.cli.parser import OVERRIDES, Parser
from spml.cli.settings import data_of, read_config
from spml.cli.survey import survey_of
from spml.data.prepare.check import PLANS, check_root


def add_arguments(parser: Parser) -> None:
    add(parser, "data_dir", help="folder with VOC2012/ and sbd/, or with images/ and segcls/; or dataset.data_dir")
    add(parser, "dataset", choices=list(PLANS), required=False)
    add(parser, "list_dir", "experiments")
    add(parser, "config", required=False)
    add(parser, "data_list", "tags")
    parser.takes_overrides, parser.epilog = True, OVERRIDES


def main(args: argparse.Namespace) -> int:
    if (args.config is None) == (args.dataset is None):
        args.error("one of --config and --dataset is required")
    if args.config:
        return check_config(args)
    if args.data_dir is None:
        args.error("--dataset needs --data_dir")
    lists = args.list_dir or f"datasets/{args.dataset}"
    report, complete = check_root(args.data_dir, args.dataset, lists, args.experiments)
    print(report)
    return 0 if complete else 1


def check_config(args: argparse.Namespace) -> int:
    """Print the page that precedes a training. Returns 1 if it has a warning."""
    config, _ = read_config(args)
    config.dataset.train_data_list = data_of(config, args, "train")
    found = survey_of(config)
    print(found.page())
    return 1 if found.warnings else 0
