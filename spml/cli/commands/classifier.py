"""Train the softmax classifier on the frozen embedding that network.pretrained names: train.task is classifier.

On several GPUs or machines: torchrun --nproc_per_node=N -m spml classifier ...
"""

import argparse

from spml.cli.options import add, add_network
from spml.cli.parser import Parser
from spml.cli.training import train_task


def add_arguments(parser: Parser) -> None:
    add_network(parser)
    add(parser, "resume", "strict")


def main(args: argparse.Namespace) -> int:
    return train_task(args, ("classifier",), recipe=("train.task=classifier",))
