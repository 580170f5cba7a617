"""What training data hold, and what in them cannot be meant; or, with --dataset, what a data root lacks.

The training data are those of --config, or of a list: --data_dir D --data_list train.txt --classes classes.txt. With
--dataset it walks the data root of VOC or DensePose. Exit status 1 if anything is missing or cannot be meant.
"""

import argparse
from typing import Any

from spml.cli.options import add
from spml.cli.parser import OVERRIDES, Parser
from spml.cli.settings import data_of, read_config
from spml.cli.survey import survey_of
from spml.data.prepare.check import PLANS, check_root
from spml.errors import UserError


def add_arguments(parser: Parser) -> None:
    add(parser, "data_dir", help="folder that the list's paths start from; with --dataset: with VOC2012/ and sbd/, ..")
    add(parser, "data_list", help="list of samples; left out: the one of --config")
    add(parser, "classes", "tags")
    add(parser, "config", required=False)
    add(parser, "dataset", choices=list(PLANS), required=False)
    add(parser, "list_dir", "experiments")
    parser.takes_overrides, parser.epilog = True, OVERRIDES


def main(args: argparse.Namespace) -> int:
    listed = args.config is not None or args.data_list is not None
    if listed == (args.dataset is not None):
        args.error("expected --data_list, --config or --dataset")
    if listed:
        return check_data(args)
    if args.data_dir is None:
        args.error("--dataset needs --data_dir")
    lists = args.list_dir or f"datasets/{args.dataset}"
    report, complete = check_root(args.data_dir, args.dataset, lists, args.experiments)
    print(report)
    return 0 if complete else 1


def check_data(args: argparse.Namespace) -> int:
    """Print the page that precedes a training. Returns 1 if it has a warning."""
    if args.classes:
        args.overrides.append(f"dataset.classes={args.classes}")
    config: Any = read_config(args)[0]
    if args.config is None and not any(word.startswith("losses") for word in args.overrides):
        config.losses = {}  # no config has said yet what will be trained
        if not config.dataset.class_names and not any("num_classes" in word for word in args.overrides):
            raise UserError("--classes: expected a file of class names, one a line, or dataset.num_classes=K, got none")
    config.dataset.train_data_list = data_of(config, args, "train")
    found = survey_of(config, whole=True)
    print(found.page())
    return 1 if found.warnings else 0
