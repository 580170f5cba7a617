"""Train what the config's train.task names: the embedding under the four relations, a network of CAMs, or another task.

On several GPUs or machines: torchrun --nproc_per_node=N -m spml train ...
"""

import argparse

from spml.cli.options import add, add_network
from spml.cli.parser import Parser
from spml.cli.training import train_task


def add_arguments(parser: Parser) -> None:
    add_network(parser)
    add(parser, "tags", "resume", "strict")


def main(args: argparse.Namespace) -> int:
    """`args.tasks`, if a script sets it, are the tasks that the script accepts."""
    return train_task(args, tasks=getattr(args, "tasks", ()))
