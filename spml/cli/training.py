"""What the training commands share: the task, the list, Ctrl-C."""

import argparse

from spml.cli.interruption import interruption
from spml.cli.settings import read_config
from spml.cli.survey import print_survey
from spml.engine.run import train
from spml.errors import INTERRUPTED, UserError


def train_task(args: argparse.Namespace, tasks: tuple[str, ...] = (), recipe: tuple[str, ...] = ()) -> int:
    """Train the task of the config.

    Args:
        tasks: those that the command is for; any if empty.
        recipe: overrides of the command, under those of the user.

    Returns:
        The exit status: 0, or 130 after Ctrl-C or SIGTERM, which finish the step and save.
    """
    config, device = read_config(args, recipe)
    if tasks and config.train.task not in tasks:
        raise UserError(
            f"train.task: expected {' or '.join(tasks)} for this command, got {config.train.task}; "
            "`spml train` trains any task"
        )
    if args.data_list:
        config.dataset.train_data_list = args.data_list
    print_survey(config, args.snapshot_dir, args.strict)
    with interruption() as stop:
        done = train(config, args.snapshot_dir, stop=stop, device=device, resume=args.resume)
    return 0 if done.finished else INTERRUPTED
