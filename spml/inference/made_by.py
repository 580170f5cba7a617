"""What made the labels of a folder, in `made_by.json`: a run by other weights or options does not go on there."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from spml.errors import UserError
from spml.files import write_atomically
from spml.inference.outputs import GREY

RECORD = "made_by.json"
SAME_RESULT = ("device", "backend")  # fields that decide where something is computed, not what
MARK = "snapshot_sha256"  # attribute of a network


def mark(model: nn.Module, snapshot: str | Path) -> None:
    """Note in `model` the file that its weights came from, by the file's content."""
    digest = hashlib.sha256()
    with open(snapshot, "rb") as file:
        while block := file.read(1 << 22):
            digest.update(block)
    setattr(model, MARK, digest.hexdigest()[:16])


def mark_of(model: object) -> str | None:
    """What `mark` noted; None where it did not."""
    return getattr(model, MARK, None)


def describe(thing: Any) -> Any:
    """`thing` as JSON can hold it: dataclasses by their fields, networks by their mark, tensors by their content."""
    if isinstance(thing, nn.Module):
        return mark_of(thing)
    if isinstance(thing, Tensor):
        return hashlib.sha256(thing.detach().cpu().contiguous().numpy().tobytes()).hexdigest()[:16]
    if is_dataclass(thing) and not isinstance(thing, type):
        found = {field.name: describe(getattr(thing, field.name)) for field in fields(thing)}
        kept = {name: value for name, value in found.items() if name not in SAME_RESULT}
        return {"kind": type(thing).__name__, **kept}
    if isinstance(thing, Mapping):
        return {str(key): describe(value) for key, value in thing.items()}
    if isinstance(thing, (list, tuple)):
        return [describe(value) for value in thing]
    if thing is None or isinstance(thing, (bool, int, float, str)):
        return thing
    return str(thing) if isinstance(thing, (Path, torch.device)) else type(thing).__name__


def start_record(save_dir: str | Path, made_by: Mapping[str, Any], overwrite: bool) -> None:
    """Write `made_by` to the folder before its first label; refuse to go on with labels that something else made.

    With `overwrite` all labels of the folder are removed first, so that none passes for a new one if this run is
    interrupted. Labels without a record, such as the release's, count as this run's own: they stay, and their images
    are skipped.

    Args:
        made_by: everything that the labels follow from; see `describe`.

    Raises:
        UserError: labels are there, of another maker or of none that is known; names what differs.
    """
    save_dir, own = Path(save_dir), describe(made_by)
    before = _read(save_dir / RECORD)
    stale = [] if before in (None, own) else sorted((save_dir / GREY).glob("*.png"))
    if stale:
        if not overwrite:
            raise UserError(
                f"{save_dir / RECORD}: this folder holds labels that something else made "
                f"({'; '.join(_differences(before, own))}): expected another --save_dir, or --overwrite"
            )
        for path in stale:
            path.unlink()
    if before != own:
        text = json.dumps(own, indent=2) + "\n"
        write_atomically(save_dir / RECORD, lambda file: file.write(text.encode()))


def _read(path: Path) -> dict[str, Any] | None:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path}: {error}; expected what an earlier run wrote there") from error
    return record if isinstance(record, dict) else None


def _differences(before: Any, now: Any, path: str = "") -> list[str]:
    """`views.scales [1.0], now [0.5]` for each value that differs."""
    if not (isinstance(before, dict) and isinstance(now, dict)):
        return [] if before == now else [f"{path} {_short(before)}, now {_short(now)}"]
    keys = dict.fromkeys([*before, *now])
    return [
        line
        for key in keys
        for line in _differences(before.get(key), now.get(key), f"{path}.{key}" if path else str(key))
    ]


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
