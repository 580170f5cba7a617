"""The parts of one stage-1 step, each with its time: where a step goes."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import torch
from _measure import clock, synchronise
from torch import Tensor

from spml import losses
from spml.grouping import segments as segments_module
from spml.tasks import spml as task_module
from spml.tasks.spml import GroupedInputs, SpmlTask

GROUPED = {"segments", "gathered", "bank"}  # inputs that only SPML has
NETWORK = ("network forward", "classifier and its losses", "network backward", "optimizer")  # the others are SPML's


class Parts:
    """Seconds of nested parts: a part inside another one counts for itself alone."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.seconds = device, defaultdict[str, float](float)
        self._inside = [0.0]

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        synchronise(self.device)
        start = clock.read()
        self._inside.append(0.0)
        yield
        synchronise(self.device)
        took = clock.read() - start
        self.seconds[name] += took - self._inside.pop()
        self._inside[-1] += took

    def wrapped(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any, **named: Any) -> Any:
            with self.part(name):
                return function(*arguments, **named)

        return timed


def grouped_terms(task: SpmlTask) -> list[str]:
    """The losses of a task that read segments."""
    return [name for name in task.loss_settings if GROUPED & {*losses.TABLE[name].inputs}]


def own_terms(task: SpmlTask, inputs: GroupedInputs) -> Tensor:
    """The weighted sum of the losses that read segments, and the step's place in the bank, as a step has them."""
    terms = {name: losses.TABLE[name].function(inputs, task.loss_settings[name]) for name in grouped_terms(task)}
    if "bank" in task.reads:
        task.bank.append(inputs.segments, inputs.tag, inputs.gathered)
    return torch.stack([task.weights[name] * term for name, term in terms.items()]).sum()


def inputs_of(task: SpmlTask, batch: Mapping[str, Any], embedding: Tensor) -> GroupedInputs:
    """The inputs of a step whose network has given `embedding`."""
    inputs = GroupedInputs(task, batch)
    inputs.__dict__["network_embedding"] = embedding  # a cached property
    return inputs


def profile_step(trainer: Any, repeat: int) -> dict[str, float]:
    """Median seconds of each part of a step, in the order of a step; the first step is left out."""
    runs = [_profiled(trainer) for _ in range(repeat + 1)][1:]
    return {name: sorted(run[name] for run in runs)[repeat // 2] for name in runs[0]}


def _profiled(trainer: Any) -> dict[str, float]:
    """One step, cut at the embedding: the gradients of the losses meet there before the network gets them."""
    task, batch = trainer.task, trainer.batch
    parts = Parts(batch["image"].device)
    with parts.part("network forward"):
        embedding = task.embed(batch["image"])
    leaf = embedding.detach().requires_grad_()
    inputs = inputs_of(task, batch, leaf)
    with parts.part("classifier and its losses"):
        plain = [name for name in task.loss_settings if name not in grouped_terms(task)]
        values = [task.weights[n] * losses.TABLE[n].function(inputs, task.loss_settings[n]) for n in plain]
    with ExitStack() as stack:
        named = (
            (task_module, "nearest", "transfer of labels"),
            (segments_module, "spherical_kmeans", "clustering"),
            (segments_module, "segment_prototypes", "prototypes"),
        )
        for module, attribute, name in named:
            stack.enter_context(patch.object(module, attribute, parts.wrapped(name, getattr(module, attribute))))
        with parts.part("gathering: unit rows, keys"):
            segments = inputs.segments
        own = []
        for name in grouped_terms(task):
            with parts.part(name):
                own.append(task.weights[name] * losses.TABLE[name].function(inputs, task.loss_settings[name]))
        with parts.part("bank"):
            if "bank" in task.reads:
                task.bank.append(segments, inputs.tag, inputs.gathered)
    trainer.optimizer.zero_grad(set_to_none=True)
    with parts.part("gradient from losses to embedding"):
        torch.stack(own).sum().backward(retain_graph=True)
    if values:
        with parts.part("classifier and its losses"):
            torch.stack(values).sum().backward()
    with parts.part("network backward"):
        embedding.backward(leaf.grad)
    with parts.part("optimizer"):
        trainer.optimizer.set_rate(trainer.rate)
        trainer.optimizer.step()
    return dict(parts.seconds)


def print_profile(seconds: Mapping[str, float]) -> None:
    """A line a part with its share of the step, then what is SPML's own."""
    total = sum(seconds.values())
    own = sum(value for name, value in seconds.items() if name not in NETWORK)
    print("\nprofile of a step")
    for name, value in [*seconds.items(), ("SPML's own parts", own), ("the step", total)]:
        print(f"{name:36} {1e3 * value:9.1f} ms {100 * value / total:6.1f} %")
