"""Running the stages of a pipeline, one after the other."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from spml import records
from spml.errors import UserError
from spml.pipelines.stage import Stage, Step, quoted
from spml.processes import run_program


def run(
    stages: Sequence[Stage],
    execute: Callable[[Sequence[str]], int],
    *,
    title: str,
    everything: Sequence[Stage] = (),
    processes: int = 1,
    dry: bool = False,
    anew: Path | None = None,
) -> int:
    """Run stages and print their commands.

    An interrupted stage continues, and a complete one returns at once: the commands check the records of their folders.
    So the same call continues a pipeline that was interrupted at any moment.

    Args:
        execute: runs a command line of `spml` in this process and returns its status.
        title: of the pipeline.
        everything: all stages of the pipeline; `stages` may be some of them.
        processes: the number of processes that share a step; torch.distributed.run starts them if there are several.
        dry: print the commands and run none.
        anew: a folder in which a stage removes what it made of other settings or data, and makes it again.

    Returns:
        The status of the first command that failed, else 0.

    Raises:
        UserError: a file that a stage needs is missing; errors of a command.
    """
    for stage in stages:
        print(f"\n== {title}: {stage.name} ==", flush=True)
        status = 0
        for step in stage.steps:
            print(quoted(step.command(processes)), flush=True)
            if dry:
                continue
            _check_inputs(step, stage, everything)
            shared = step.shared and processes > 1
            try:
                found = run_program(step.launch(processes)) if shared else execute(step.words)
            except records.OtherFiles as error:
                if anew is None or not error.folder.resolve().is_relative_to(anew.resolve()):
                    remedy = "expected the same, another --snapshots, or --overwrite, which makes anew what has changed"
                    raise UserError(f"{error.told}: {remedy}") from error
                print(f"{error.told}: made anew", flush=True)
                found = execute(_anew(step.words, error.folder))
            status = status or found
            if found and not step.verdict:
                return found
        if status:
            return status
    return 0


def _anew(words: Sequence[str], folder: Path) -> Sequence[str]:
    """The words that make a step's files again. Training has no --overwrite: its folder is removed."""
    if words[0] in ("train", "classifier"):
        shutil.rmtree(folder)
        return words
    return [words[0], "--overwrite", *words[1:]]


def _check_inputs(step: Step, stage: Stage, everything: Sequence[Stage]) -> None:
    """Of what other stages make, all must be there and complete."""
    makers = {path: maker.name for maker in everything for path in maker.outputs}
    for path in step.inputs:
        if makers.get(path, stage.name) == stage.name:
            continue
        if not path.exists():
            raise UserError(f"stage {stage.name} needs {path}, which the stage {makers[path]} makes: run that first")
        if path.is_dir():
            records.require_complete(path, f"what the stage {makers[path]} makes")
