"""Finds the device of a name, and of a process."""

import os

import torch

from spml.errors import UserError


def resolve_device(name: str) -> torch.device:
    """The device called `name`; `auto` is CUDA if there is one. Raises UserError for a missing device."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        if device.type not in ("cpu", "cuda"):
            raise RuntimeError
    except RuntimeError:
        raise UserError(f"--device: expected cpu, cuda, cuda:<i> or auto, got {name!r}") from None
    if device.type == "cpu" and device.index:
        raise UserError(f"--device {name}: there is one CPU device; expected cpu")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(
            f"--device {name}: this machine shows {torch.cuda.device_count()} CUDA devices; use cpu or auto"
        )
    return device


def own_device(device: torch.device) -> torch.device:
    """The device of this process among those of its machine: with CUDA each has a GPU of its own.

    Raises:
        UserError: more processes on this machine than CUDA devices.
    """
    if device.type != "cuda":
        return device
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if local >= torch.cuda.device_count():
        raise UserError(
            f"torchrun --nproc_per_node: expected at most {torch.cuda.device_count()} processes here, one a GPU"
        )
    device = torch.device("cuda", local)
    torch.cuda.set_device(device)
    return device
