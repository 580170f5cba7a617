"""Snapshots of a run: `model-<i>.pth` has the networks, `model-<i>.state.pth` the rest that resuming needs."""

from pathlib import Path
from typing import Any

import torch

from spml.engine.optimizer import StepMomentumSGD
from spml.errors import UserError
from spml.models.checkpoint import list_snapshots, load_parts, refusal, save_parts, write_tensors
from spml.tasks import Task


def save_snapshot(folder: Path, last_step: int, task: Task, optimizer: StepMomentumSGD) -> Path:
    """Write both files of a snapshot, the model last, and return its path.

    A state file without its model is an interrupted save.

    Args:
        last_step: the index of the last finished step.
    """
    path = folder / f"model-{last_step}.pth"
    state = {"step": last_step, "optimizer": optimizer.state_dict(), "extra": task.state()}
    folder.mkdir(parents=True, exist_ok=True)
    write_tensors(path.with_suffix(".state.pth"), state)
    save_parts(path, task.parts)
    return path


def load_snapshot(folder: Path, task: Task, optimizer: StepMomentumSGD, device: torch.device) -> int | None:
    """Load the newest snapshot of a folder and return its step; None where there is none.

    Raises:
        UserError: files that are missing or cannot be read, or that another config or task wrote.
    """
    snapshots = list_snapshots(folder)
    if not snapshots:
        return None
    path = snapshots[-1][1]
    state_path = path.with_suffix(".state.pth")
    if not state_path.is_file():
        raise UserError(
            f"--resume: {path} has no {state_path.name} beside it; it can be used by network.pretrained only"
        )
    load_parts(path, task.parts)
    state = _read_state(state_path, path, device)
    try:
        optimizer.load_state_dict(state["optimizer"])
        task.load_state(state["extra"], device)
        return int(state["step"])
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"--resume: {state_path} is not of this config and task: expected the same trained layers and losses, got "
            f"{type(error).__name__}: {error}; it can be used by network.pretrained in another folder"
        ) from error


def _read_state(state_path: Path, path: Path, device: torch.device) -> dict[str, Any]:
    try:
        state = torch.load(state_path, map_location=device, weights_only=True)
    except Exception as error:  # torch.load has no one error for a file that is cut off or not its own
        raise UserError(
            f"--resume: {state_path} cannot be read, {refusal(error)}; "
            f"without {path.name} the snapshot before it is taken"
        ) from error
    if not isinstance(state, dict):
        raise UserError(f"--resume: {state_path}: expected what training wrote, got {type(state).__name__}")
    return state
