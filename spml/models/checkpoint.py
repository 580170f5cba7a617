"""Reads and writes weights: released and own snapshots, and ImageNet backbones. It never runs code from a file.

A snapshot is a file `{part: state dict}`. It always has the release's parts `embedding_model` and `prediction_model`,
empty where a task has other networks.
"""

import re
import warnings
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from spml.errors import UserError
from spml.files import write_atomically

SMOOTH_KERNEL = "lfn.smooth_kernel.weight"
CLASSIFIER_PREFIX = "semantic_classifier."
WRAPPERS = re.compile(r"^(module\.|_orig_mod\.)+")  # left by DataParallel, DistributedDataParallel, torch.compile
RELEASED_PARTS = ("embedding_model", "prediction_model")
OLDER_NAMES = {"cam_model": "embedding_model"}  # of a part in snapshots that older versions wrote
SHOWN_KEYS = 3
_MODEL_FILE = re.compile(r"model-(\d+)\.pth")


class CheckpointError(UserError):
    """A file of weights that cannot be read or does not fit the model. One line: path, keys, shapes, counts."""


def load_checkpoint(path: str | Path, embedding_model: nn.Module, classifier: nn.Module | None = None) -> str:
    """Copy the weights of a file into an embedding network and its classifier; see `load_parts`.

    With `classifier` None it ignores the classifier in the file.
    """
    parts = {"embedding_model": embedding_model}
    return load_parts(path, parts if classifier is None else {**parts, "prediction_model": classifier})


def load_parts(path: str | Path, parts: Mapping[str, nn.Module]) -> str:
    """Copy the weights of a file into networks, by their names in a snapshot. It copies nothing unless everything fits.

    Accepts snapshots `{"embedding_model": .., "prediction_model": .., ..}` and ImageNet backbones, a flat dict of keys
    `conv1.*, bn1.*, layer1.* .. layer4.*, fc.*`, also under "state_dict". A backbone goes into the first of `parts`;
    `fc.*` is dropped and all other layers keep their initial weights. Prefixes `module.` are removed. A released
    snapshot may lack `lfn.smooth_kernel.weight` (the closed form stays) or repeat it for each channel. Batch-norm
    counters may be missing, as in files of old PyTorch versions. Other parts of the file are ignored.

    Returns:
        One line saying what was loaded.

    Raises:
        CheckpointError: missing, unreadable or malicious file; no known format; keys missing, unexpected or of another
            shape; no part of a wanted name.
    """
    content = read_weights(path)
    if "embedding_model" in content:
        fitted = [(model, fit(path, model, _part(path, content, name))) for name, model in parts.items()]
        told = {"embedding_model": "embedding", "prediction_model": "classifier"}
        summary = f"{path}: snapshot, {' and '.join(told.get(name, name) for name in parts)}"
    else:
        model = next(iter(parts.values()))
        fitted = [(model, fit(path, model, _imagenet_state(path, content), part="resnet_backbone."))]
        summary = f"{path}: ImageNet backbone, heads keep their initial weights"
    for model, state in fitted:
        model.load_state_dict(state, strict=False)
    return f"{summary} ({sum(len(state) for _, state in fitted)} entries)"


def save_checkpoint(path: str | Path, embedding_model: nn.Module, classifier: nn.Module | None = None) -> None:
    """Write a snapshot of an embedding network and its classifier; see `save_parts`."""
    parts = {"embedding_model": embedding_model}
    save_parts(path, parts if classifier is None else {**parts, "prediction_model": classifier})


def save_parts(path: str | Path, parts: Mapping[str, nn.Module]) -> None:
    """Write a snapshot of named networks, atomically: CPU tensors, keys without the prefixes of wrappers.

    Raises:
        CheckpointError: the file cannot be written.
    """
    states = {name: _portable_state(model) for name, model in parts.items()}
    write_tensors(path, {**{name: {} for name in RELEASED_PARTS}, **states})


def write_tensors(path: str | Path, content: Mapping[str, Any]) -> None:
    """`torch.save`, atomically. Raises CheckpointError where the file cannot be written."""
    try:
        write_atomically(path, partial(torch.save, content))
    except UserError as error:
        raise CheckpointError(str(error)) from error
    except RuntimeError as error:  # PyTorch's writer turns a full disk into one
        reason = str(error).split("\n")[0]
        raise CheckpointError(f"cannot write {path}: {reason}") from error


def _portable_state(model: nn.Module) -> dict[str, Tensor]:
    # Copy every entry: for a view, torch.save would write the whole storage behind it.
    return {
        WRAPPERS.sub("", key): value.detach().cpu().clone(memory_format=torch.contiguous_format)
        for key, value in model.state_dict().items()
    }


def read_weights(path: str | Path) -> dict[str, Any]:
    """Read a file of weights to the CPU: safetensors if it has that suffix, else PyTorch.

    Raises:
        CheckpointError: missing, unreadable or malicious file.
    """
    try:
        if Path(path).suffix == ".safetensors":
            return _read_safetensors(path)
        with warnings.catch_warnings():  # the one line of the error says enough
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True)
    except CheckpointError:
        raise
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror or error}") from error
    except Exception as error:  # the unpickler of a stranger's bytes may raise anything
        raise CheckpointError(f"{path}: expected a PyTorch file of tensors only; {refusal(error)}") from error
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path}: expected a dict of weights, got {type(content).__name__}")
    return dict(content)


def _read_safetensors(path: str | Path) -> dict[str, Tensor]:
    try:
        from safetensors.torch import load_file
    except ImportError as error:
        raise CheckpointError(f"{path}: needs the package safetensors: pip install safetensors") from error
    return load_file(path)


def refusal(error: Exception) -> str:
    """Why `torch.load` gave up: the forbidden name in the pickle, or the first sentence of its long message."""
    text = str(error).strip()
    found = re.search(r"unsupported (global|operand|class)[^\n]*", text, re.IGNORECASE)
    first = re.split(r"\n|(?<=\.) ", text)[0] or type(error).__name__
    return f"refused: {found[0]}" if found else f"this is none ({first})"


def _state(path: str | Path, content: Mapping[str, Any], name: str) -> dict[str, Tensor]:
    """One state dict of a file, without prefixes `module.`; every entry is a tensor."""
    state = content.get(name)
    if not isinstance(state, Mapping):
        raise CheckpointError(f"{path}: {name}: expected a dict of weights, got {type(state).__name__}")
    for key, value in state.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise CheckpointError(f"{path}: {name}.{key}: expected a tensor, got {type(value).__name__}")
    return {WRAPPERS.sub("", key): value for key, value in state.items()}


def _part(path: str | Path, content: Mapping[str, Any], name: str) -> dict[str, Tensor]:
    """The state of one part of a snapshot. For the classifier, only its own keys: released files hold others, too."""
    if name not in content and name in OLDER_NAMES:
        name = OLDER_NAMES[name]
    state = _state(path, content, name)
    if name == "prediction_model":
        state = {key: value for key, value in state.items() if key.startswith(CLASSIFIER_PREFIX)}
        if not state:
            raise CheckpointError(f"{path}: expected a classifier ({CLASSIFIER_PREFIX}*) in it; found none")
    if not state:
        held = [part for part, found in content.items() if found]
        raise CheckpointError(f"{path}: expected the weights of {name} in it; found {', '.join(held) or 'nothing'}")
    return state


def _imagenet_state(path: str | Path, content: Mapping[str, Any]) -> dict[str, Tensor]:
    """The backbone's entries under the names of our model."""
    content = content if "state_dict" in content else {"state_dict": content}
    state = {}
    for key, value in _state(path, content, "state_dict").items():
        layer = re.match(r"layer([1-4])\.", key)
        if key.startswith("fc."):
            continue
        if key.startswith(("conv1.", "bn1.")):
            state[f"resnet_backbone.conv1.{key}"] = value
        elif layer:
            state[f"resnet_backbone.res{int(layer[1]) + 1}.{key[layer.end() :]}"] = value
        else:
            raise CheckpointError(
                f"{path}: expected a snapshot (embedding_model, prediction_model) or a backbone "
                f"(conv1.*, bn1.*, layer1.* .. layer4.*, fc.*); found {key!r}"
            )
    if not state:
        raise CheckpointError(f"{path}: expected weights, found none")
    return state


def fit(path: str | Path, model: nn.Module, state: dict[str, Tensor], part: str = "") -> dict[str, Tensor]:
    """The entries to load, once all of them agree with that part of a model (its keys with a prefix).

    Raises:
        CheckpointError: keys missing (except counters of batch norms), unexpected or of another shape; it names them.
    """
    own = model.state_dict()
    wanted = {key for key in own if key.startswith(part)}
    optional = {key for key in wanted if key.endswith("num_batches_tracked")} | {SMOOTH_KERNEL}
    if SMOOTH_KERNEL in own and SMOOTH_KERNEL in state:
        state = {**state, SMOOTH_KERNEL: _one_kernel(state[SMOOTH_KERNEL], own[SMOOTH_KERNEL].shape)}

    missing = [key for key in own if key in wanted - optional and key not in state]
    unexpected = [key for key in state if key not in own]
    mismatched = [
        f"{key} expected {tuple(own[key].shape)} got {tuple(state[key].shape)}"
        for key in own
        if key in state and state[key].shape != own[key].shape
    ]
    faults = {"missing": missing, "unexpected": unexpected, "of another shape": mismatched}
    if any(faults.values()):
        told = "; ".join(f"{len(keys)} {fault}: {_first(keys)}" for fault, keys in faults.items() if keys)
        raise CheckpointError(f"{path}: does not fit {type(model).__name__} ({len(own)} entries): {told}")
    return state


def _first(keys: list[str]) -> str:
    return ", ".join(keys[:SHOWN_KEYS]) + (", ..." if len(keys) > SHOWN_KEYS else "")


def _one_kernel(kernel: Tensor, shape: torch.Size) -> Tensor:
    """The colour filter as (3, 1, k, k), from one map, one a channel, or a (3, 3, k, k) that repeats or is diagonal.

    It returns anything else unchanged; the comparison of shapes then reports it.
    """
    if kernel.shape[-2:] != shape[-2:]:
        return kernel
    maps = kernel.reshape(-1, *shape[-2:])  # (1 | 3 | 9, k, k)
    if len(maps) == 9:
        table = maps.reshape(3, 3, *shape[-2:])
        diagonal = torch.stack([table[channel, channel] for channel in range(3)])
        others = table[~torch.eye(3, dtype=torch.bool)]  # (6, k, k)
        if not (torch.equal(maps, maps[:1].expand_as(maps)) or not others.any()):
            return kernel
        maps = diagonal
    if len(maps) not in (1, 3):
        return kernel
    return maps.unsqueeze(1).expand(shape).clone()


def held_parts(path: str | Path) -> tuple[str, ...]:
    """The names of the networks whose weights a snapshot holds; empty for a file of backbone weights.

    Raises:
        CheckpointError: missing, unreadable or malicious file.
    """
    states = {name: state for name, state in read_weights(path).items() if isinstance(state, Mapping) and state}
    if not any(WRAPPERS.sub("", str(key)).startswith(CLASSIFIER_PREFIX) for key in states.get("prediction_model", ())):
        states.pop("prediction_model", None)
    return tuple(name for name in states if name != "state_dict")


def list_snapshots(folder: Path) -> list[tuple[int, Path]]:
    """Return (last step, path) of the models in a folder, oldest first."""
    found = [
        (int(match[1]), path) for path in folder.glob("model-*.pth") if (match := _MODEL_FILE.fullmatch(path.name))
    ]
    return sorted(found)


def find_snapshot(path: str | Path, option: str = "--snapshot_dir") -> Path:
    """`path` if it is a file, else its `model-<i>.pth` of the largest i.

    Raises:
        UserError: there is no snapshot; the message names the `option` that gave the path.
    """
    path = Path(path)
    if path.is_file():
        return path
    found = list_snapshots(path)
    if not found:
        raise UserError(f"{option} {path}: expected a snapshot or a folder with model-<i>.pth, found none")
    return found[-1][1]
