"""A stage of a pipeline: `spml` command lines with their input and output files."""

import shlex
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Step:
    """One command line.

    Args:
        words: the words after `spml`.
        inputs: files and folders that must exist; earlier steps make them, or the user has them.
        outputs: files and folders that it makes. It continues where it stopped, and returns at once if all is done.
        shared: several processes share the work if the user has several GPUs.
        verdict: status 1 is a result, after which the rest of the stage still runs.
    """

    words: tuple[str, ...]
    inputs: tuple[Path, ...]
    outputs: tuple[Path, ...]
    shared: bool = True
    verdict: bool = False

    def command(self, processes: int) -> list[str]:
        """The command line as a user types it."""
        if self.shared and processes > 1:
            return ["torchrun", "--standalone", f"--nproc_per_node={processes}", "-m", "spml", *self.words]
        return ["spml", *self.words]

    def launch(self, processes: int) -> list[str]:
        """The command line that starts it in several processes, with this interpreter."""
        return [sys.executable, "-m", "torch.distributed.run", *self.command(processes)[1:]]


@dataclass(frozen=True)
class Stage:
    """Steps under one name, by which the user selects them, with a line on their purpose."""

    name: str
    help: str
    steps: tuple[Step, ...]

    @property
    def outputs(self) -> set[Path]:
        """The files that its steps make."""
        return {path for step in self.steps for path in step.outputs}

    @property
    def inputs(self) -> set[Path]:
        """The files that its steps read and do not make themselves."""
        return {path for step in self.steps for path in step.inputs} - self.outputs


def quoted(words: Iterable[str]) -> str:
    """The words as one line of a shell."""
    return " ".join(shlex.quote(word) for word in words)


def choose(stages: Sequence[Stage], first: str | None = None, only: Sequence[str] | None = None) -> list[Stage]:
    """The stages from the one called `first`, or those of `only`, in their own order.

    Raises:
        ValueError: a name that no stage has, or none left.
    """
    names = [stage.name for stage in stages]
    for name in [*([first] if first else []), *(only or [])]:
        if name not in names:
            raise ValueError(f"expected some of {' '.join(names)}, got {name}")
    begin = names.index(first) if first else 0
    chosen = [stage for stage in stages[begin:] if not only or stage.name in only]
    if not chosen:
        raise ValueError(f"expected a stage from {first} on, got {' '.join(only or [])}, before it")
    return chosen
