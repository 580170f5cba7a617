"""Make the built-in data, train SPML and partial cross-entropy from its points, evaluate, and draw the results."""

import argparse
from pathlib import Path

from spml.cli.interruption import interruption
from spml.cli.options import add, add_config
from spml.cli.parser import Parser
from spml.device import resolve_device
from spml.pipelines.quickstart import quickstart
from spml.pipelines.result import summary


def add_arguments(parser: Parser) -> None:
    add_config(parser, required=False, default="quickstart")
    add(parser, "save_dir", required=False, default="snapshots/quickstart", help="gets data, runs, result.json, .png")
    add(parser, "seeds")


def main(args: argparse.Namespace) -> None:
    device = resolve_device(args.device)
    result = quickstart(args.config, args.save_dir, args.seeds, device, args.overrides, interruption)
    print(summary(result))
    print(f"{result['seconds']:.0f} s; {Path(args.save_dir) / 'result.json'}, {Path(args.save_dir) / 'result.png'}")
