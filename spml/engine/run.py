"""`spml.train`: a whole training run, from a config and data to snapshots."""

import sys
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from spml.allocator import keep_memory
from spml.config import load_config, save_config
from spml.data.dataset import TrainingDataset, build_training_dataset, check_labels, load_training_dataset
from spml.data.samples import Sample, named
from spml.device import resolve_device
from spml.engine import distributed
from spml.engine.callbacks import Progress, TensorBoard
from spml.engine.loop import Callback, Record, run_steps
from spml.engine.optimizer import StepMomentumSGD, build_optimizer
from spml.engine.record import start_record
from spml.engine.snapshot import load_snapshot, save_snapshot
from spml.engine.validation import Validation
from spml.errors import UserError
from spml.files import why
from spml.inference.shares import hash_ordered
from spml.ledger import FOLDER as INPUTS
from spml.ledger import Ledger
from spml.models.checkpoint import list_snapshots
from spml.records import finish
from spml.tasks import TABLE, Task


@dataclass
class Run:
    """The result of a training run.

    Attributes:
        folder: its snapshots, `config.yaml`, `record.json` and TensorBoard records.
        finished: whether all steps are done; False after a stop, which `resume` can continue.
        history: a dict for each step of this call: "step", "total", every raw term, and what callbacks returned.
    """

    folder: Path
    finished: bool = True
    history: list[Record] = field(default_factory=list)

    @property
    def snapshot(self) -> Path | None:
        """The newest snapshot; None where there is none."""
        found = list_snapshots(self.folder)
        return found[-1][1] if found else None

    def model(self, device: str | torch.device = "auto") -> Any:
        """The trained model, as `spml.load` returns it. Raises UserError where there is no snapshot."""
        if self.snapshot is None:
            raise UserError(f"{self.folder}: expected a snapshot, found none")
        from spml.inference.loading import load  # slow to import, and not needed to train

        return load(self.snapshot, device=device)


def train(
    config: Any,
    folder: str | Path,
    samples: Sequence[Sample] | None = None,
    callbacks: Sequence[Callback] = (),
    stop: threading.Event | None = None,
    device: str | torch.device = "auto",
    resume: bool = False,
) -> Run:
    """Train the task `train.task` of a config and write snapshots into a folder. Works in any thread.

    Everything random is a function of `train.seed`, the step and the process, so a resumed run repeats the
    uninterrupted one, bit for bit on one CPU process. Under torchrun each process takes its share of every batch.

    Args:
        config: the result of `spml.config.load_config`, or a YAML file, or the name of a shipped config.
        folder: where snapshots, the resolved config and TensorBoard records go.
        samples: the training data, in place of the list that the config names.
        callbacks: the first process calls each after every step as `callback(step, losses, task)`. It may return a dict
            of numbers, which joins the history and TensorBoard. If it has a method `close`, that is called at the end.
        stop: once this event is set, the run finishes its step, saves and returns.
        device: cpu, cuda, cuda:<i>, or auto (cuda if there is one); under torchrun each process takes its own GPU.
        resume: continue from the newest snapshot; without any, start.

    Raises:
        UserError: data, config or snapshots that cannot be used; a loss that is not finite.
    """
    folder = Path(folder)
    config = load_config(config) if isinstance(config, str | Path) else config
    if "train" not in config:
        raise UserError("config: expected what load_config returns, a YAML file or the name of a shipped config")
    samples = None if samples is None else named(samples)
    if callable(callbacks):
        raise UserError("callbacks: expected a list of functions, got one function")
    if stop is not None and not hasattr(stop, "is_set"):
        raise UserError(f"stop: expected a threading.Event, got {type(stop).__name__}")
    resume = resume or config.train.resume
    if list_snapshots(folder) and not resume:
        raise UserError(f"{folder}: holds snapshots already; add --resume to go on, or name another folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)  # where that is impossible, before any work
    except OSError as error:
        raise UserError(f"cannot write {folder}: {why(error)}") from error
    begun = torch.distributed.is_initialized()
    device = distributed.start(resolve_device(device) if isinstance(device, str) else device)
    try:
        return _train(config, folder, samples, callbacks, stop or threading.Event(), device, resume)
    finally:
        if not begun:
            distributed.stop()


def _train(
    config: Any,
    folder: Path,
    samples: Sequence[Sample] | None,
    callbacks: Sequence[Callback],
    stop: threading.Event,
    device: torch.device,
    resume: bool,
) -> Run:
    world, last = distributed.world_size(), config.train.max_iteration
    if device.type == "cpu":
        keep_memory()
    torch.manual_seed(config.train.seed)
    task = build_task(config).to(device)
    optimizer = build_optimizer(task, config.train.momentum)
    dataset = build_training_dataset(config, task.needs, samples)
    contents = hash_ordered(dataset.samples, Ledger(folder / INPUTS))  # checked, by all processes
    with distributed.all_or_none(device):
        if distributed.rank() == 0:
            check_labels(dataset)
            start_record(config, folder, dataset, world, contents)
    done = load_snapshot(folder, task, optimizer, device) if resume else None
    first = config.train.begin_iteration if done is None else done + 1
    if done is not None:
        say(f"resuming after step {done}")
    if first >= last:
        say(f"nothing to do: {first} of {last} steps are done")
        return _end(Run(folder))
    if distributed.rank() == 0:
        save_config(config, folder / "config.yaml")
    with ExitStack() as stack:
        records = run_steps(
            task,
            optimizer,
            load_training_dataset(config, dataset, distributed.rank(), world, first),
            first,
            callbacks=_callbacks(stack, config, folder, first, task, dataset, callbacks),
            save=partial(_save, folder, task, optimizer),
            stopped=stop.is_set,
        )
    run = Run(folder, bool(records) and records[-1]["step"] + 1 == last, records)
    say(
        f"trained {len(records)} steps; snapshot {run.snapshot}"
        if run.finished
        else f"interrupted after step {records[-1]['step']:g}; saved{'' if resume else '; go on with --resume'}"
    )
    return _end(run)


def _end(run: Run) -> Run:
    """Write into the record whether the run is complete, and return the run."""
    if run.finished and distributed.rank() == 0:
        finish(run.folder)
    return run


def build_task(config: Any) -> Task:
    """Build the task that `train.task` names, with the exchange of this run, and print what it loaded.

    Raises:
        UserError: see `Task.from_config`; a batch too small for batch norm.
    """
    task = TABLE[config.train.task].from_config(config)
    task.exchange = distributed.exchange()
    task.check_batch(config.train.batch_size * (distributed.world_size() if config.network.use_syncbn else 1))
    for note in task.notes:
        say(note, sys.stderr if note.startswith("warning") else None)
    return task


def _callbacks(
    stack: ExitStack,
    config: Any,
    folder: Path,
    first: int,
    task: Task,
    dataset: TrainingDataset,
    own: Sequence[Callback],
) -> list[Callback]:
    """Validation on all processes; the caller's callbacks and the reports on the first. `stack` closes them."""
    world, found = distributed.world_size(), list[Callback]()
    if config.train.validation_step:
        with distributed.all_or_none(next(task.parameters()).device):
            found.append(Validation(config, task))
    if distributed.rank() == 0:
        found += [*own, Progress(config, first, world)]
        try:
            found.append(TensorBoard(config, folder, first, dataset, world))
        except ImportError:
            say("no TensorBoard records: pip install tensorboard")
    for callback in found:
        if hasattr(callback, "close"):
            stack.callback(callback.close)
    return found


def _save(folder: Path, task: Task, optimizer: StepMomentumSGD, step: int) -> None:
    if distributed.rank() == 0:
        save_snapshot(folder, step, task, optimizer)


def say(text: str, file: Any = None) -> None:
    """Print a line, above a progress bar if there is one, on the first process."""
    if distributed.rank() == 0:
        tqdm.write(text, file=file)
