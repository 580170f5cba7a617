"""Train SPML and its baseline, partial cross-entropy, on the same network, data and steps; print and save both mIoUs.

It skips finished runs and continues interrupted ones.
"""

import argparse

from spml.cli.interruption import interruption
from spml.cli.options import add, add_config
from spml.cli.parser import Parser
from spml.pipelines.compare import METHODS, compare, summary


def add_arguments(parser: Parser) -> None:
    add_config(parser)
    add(parser, "save_dir", help="gets <method>/seed<i>/ and result.json")
    add(parser, "seeds")
    add(parser, "methods", default=list(METHODS), help=f"which to run, by commas, out of {', '.join(METHODS)}")


def main(args: argparse.Namespace) -> None:
    own = (args.seeds, args.methods, args.overrides, args.device, interruption)
    print(summary(compare(args.config, args.save_dir, *own)))
