"""The common part of the training commands: the task, the list, Ctrl-C."""

import argparse
from pathlib import Path

from spml.cli.interruption import interruption
from spml.cli.settings import read_config
from spml.cli.survey import PAGE, print_survey
from spml.engine.first_steps import FirstSteps
from spml.engine.run import train
from spml.errors import INTERRUPTED, UserError
from spml.tasks import TABLE


def train_task(args: argparse.Namespace, tasks: tuple[str, ...] = (), recipe: tuple[str, ...] = ()) -> int:
    """Train the task of the config.

    Args:
        tasks: the tasks that the command accepts; empty: any.
        recipe: overrides of the command; those of the user come after them.

    Returns:
        The exit status: 0, or 130 after Ctrl-C or SIGTERM, which finish the step and save.
    """
    config, device = read_config(args, recipe)
    if tasks and config.train.task not in tasks:
        raise UserError(
            f"train.task: expected {' or '.join(tasks)} for this command, got {config.train.task}; "
            "`spml train` trains any task"
        )
    if getattr(args, "tags", None) and not TABLE[config.train.task].needs.tags:
        raise UserError(f"--tags: the task {config.train.task} does not learn from tags: expected none")
    if args.data_list:
        config.dataset.train_data_list = args.data_list
    print_survey(config, args.snapshot_dir, args.strict)
    first = FirstSteps(config.train.max_iteration, Path(args.snapshot_dir) / PAGE, args.strict)
    with interruption() as stop:
        done = train(config, args.snapshot_dir, callbacks=[first], stop=stop, device=device, resume=args.resume)
    return 0 if done.finished else INTERRUPTED
