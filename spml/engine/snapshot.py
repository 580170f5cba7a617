"""Snapshots of a run: `model-<i>.pth` in the released format, `model-<i>.state.pth` with all that resuming needs."""

import os
from pathlib import Path
from typing import Any

import torch
from torch import nn

from spml.errors import UserError
from spml.models import load_checkpoint
from spml.models.checkpoint import list_snapshots, refusal, save_checkpoint


def save_snapshot(
    folder: Path, last_step: int, embedding_model: nn.Module, classifier: nn.Module | None, state: dict[str, Any]
) -> Path:
    """Write both files of a snapshot, each under a temporary name first, the model last, and return the model's path.

    `last_step` is the index of the last finished step. A state file without its model is an interrupted save.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"model-{last_step}.pth"
    temporary = folder / f".model-{last_step}.state.pth.{os.getpid()}"
    try:
        with open(temporary, "wb") as file:
            torch.save({"step": last_step, **state}, file)
        os.replace(temporary, path.with_suffix(".state.pth"))
    except RuntimeError as error:  # PyTorch's writer turns a full disk into one
        raise UserError(f"{path.with_suffix('.state.pth')}: cannot be written: {str(error).splitlines()[0]}") from error
    finally:
        temporary.unlink(missing_ok=True)
    save_checkpoint(path, embedding_model, classifier)
    return path


def load_snapshot(
    folder: Path, embedding_model: nn.Module, classifier: nn.Module | None, device: torch.device
) -> tuple[Path, dict[str, Any]] | None:
    """Load the newest snapshot of a folder into the models and return its state's path and content; None without any.

    Raises:
        UserError: a state file that is missing or cannot be read.
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
    load_checkpoint(path, embedding_model, classifier)
    try:
        state = torch.load(state_path, map_location=device, weights_only=True)
    except Exception as error:  # torch.load has no one error for a file that is cut off or not its own
        raise UserError(
            f"--resume: {state_path} cannot be read, refused: {refusal(error)}; "
            f"without {path.name} the snapshot before it is taken"
        ) from error
    if not isinstance(state, dict):
        raise UserError(f"--resume: {state_path}: expected what training wrote, got {type(state).__name__}")
    return state_path, state
