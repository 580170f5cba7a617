"""What the training commands share: the task, the list, Ctrl-C."""

import argparse

from spml.cli.settings import read_config
from spml.engine.loop import train

STAGES = {"segsort": "embedding", "softmax_classifier": "classifier", "cam": "cam", "seam": "cam"}


def train_task(args: argparse.Namespace, tasks: tuple[str, ...] = ()) -> int:
    """Train the task of the config; `tasks`: those that the command is for, any if empty.

    Returns: the exit status: 0, or 130 after Ctrl-C and SIGTERM, which finish the step and save.
    """
    recipe = ("network.prediction_types=softmax_classifier",) if tasks == ("classifier",) else ()
    config, device = read_config(args, recipe)
    if args.data_list:
        config.dataset.train_data_list = args.data_list
    stage = STAGES[config.network.prediction_types]
    return train(config, args.snapshot_dir, device, stage, args.resume)
