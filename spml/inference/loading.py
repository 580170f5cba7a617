"""`spml.load`: from a snapshot or an exported file to a model."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from spml.config import load_config
from spml.device import resolve_device
from spml.errors import UserError
from spml.inference.export import read_safetensors
from spml.inference.model import MEMORY, Model
from spml.inference.runtimes import AUTO
from spml.models import build_classifier, build_embedding_model, load_checkpoint
from spml.models.cam import CAM_TASKS
from spml.models.checkpoint import find_snapshot, fit, held_parts


def load(
    path: str | Path,
    config: Any = None,
    device: str | torch.device = "auto",
    *,
    memory: str | Path | None = None,
    runtime: str = AUTO,
) -> Model:
    """A trained model.

    Args:
        path: a snapshot `model-<i>.pth`, own or released, or a folder, whose newest snapshot it loads; or a file that
            `Model.export` wrote: `.safetensors` holds all but the memory, `.onnx` predicts on the CPU alone.
        config: the result of `load_config`, or the path of a YAML file; None: `config.yaml` beside the snapshot.
        device: cpu, cuda, cuda:<i>, or auto (cuda if there is one).
        runtime: what computes it: auto, torch, folded, onnx, openvino or bf16; see `spml predict --help`.
        memory: a folder that `spml memory` filled, for retrieval; None: `memory` beside the snapshot, if it exists.

    Raises:
        UserError: no snapshot, no config, weights that do not fit it, or a network of CAMs.
    """
    snapshot = find_snapshot(path, "spml.load")
    if memory is not None and not Path(memory).is_dir():
        raise UserError(f"memory: no folder {memory}; expected one that `spml memory` or Model.remember filled")
    if snapshot.suffix == ".onnx":
        return _load_onnx(snapshot, config, device, memory)
    states: dict[str, dict[str, Tensor]] | None = None
    if snapshot.suffix == ".safetensors":
        own, states = read_safetensors(snapshot)
        config = own if config is None else config
    if config is None:
        config = snapshot.parent / "config.yaml"
        if not config.is_file():
            raise UserError(f"{snapshot}: no config.yaml beside it: expected config=, the YAML file of its experiment")
    if isinstance(config, (str, Path)):
        config = load_config(config)
    device = resolve_device(device) if isinstance(device, str) else device
    held = held_parts(snapshot) if states is None else tuple(states)
    if "embedding_model" not in held or config.train.task in CAM_TASKS:
        raise UserError(f"{snapshot}: expected a snapshot of an embedding network, got {', '.join(held) or 'none'}")
    embedding = build_embedding_model(config)
    classifier = build_classifier(config) if "prediction_model" in held else None
    if states is None:
        load_checkpoint(snapshot, embedding, classifier)
    else:
        for part, network in (("embedding_model", embedding), ("prediction_model", classifier)):
            if network is not None:
                network.load_state_dict(fit(snapshot, network, states[part]), strict=False)
    model = Model(config, embedding, classifier, device, runtime)
    model.name = snapshot.name if states is None else "model-0.pth"
    beside = snapshot.parent / MEMORY if memory is None else Path(memory)
    if memory is not None or beside.is_dir():
        model.memory_dir = beside
    return model


def _load_onnx(path: Path, config: Any, device: str | torch.device, memory: str | Path | None) -> Model:
    """The model in an ONNX file, which is for the CPU."""
    if str(device) not in ("auto", "cpu"):
        raise UserError(
            f"{path}: expected device cpu or auto, as onnxruntime computes an ONNX file there, got {device}"
        )
    from spml.inference.onnx_model import OnnxModel  # slow to import

    model = OnnxModel(path, load_config(config) if isinstance(config, (str, Path)) else config)
    model.memory_dir = None if memory is None else Path(memory)
    return model
