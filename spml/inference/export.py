"""Models that leave the project: one file with weights or graph, classes and settings, checked before it is written."""

import copy
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from spml.config import load_config, save_config
from spml.errors import UserError
from spml.files import write_atomically
from spml.inference.graph import TRACED, Graph, onnx_bytes, write_graph
from spml.models.layers import resize

SUFFIXES = (".onnx", ".safetensors")
OUTPUTS = ("scores", "embedding")
CLOSE = 1e-4  # of the largest value, or of 1 if that is larger
SHORTER = ((64, 64), (75, 50))  # sizes that every check has, beside the images': none may be special
OWN = {  # settings that name files of this machine: what they become
    "dataset": {"classes": None, "data_dir": ".", "tags": "", "train_data_list": "", "test_data_list": ""},
    "network": {"pretrained": ""},
}


class Deployed(nn.Module):
    """Embedding network and classifier as one: (B, 3, H, W) -> scores (B, K, H, W) and embedding (B, D, h, w).

    Scores are the classifier's logits at the image's size; without a classifier, the embedding comes alone. It is raw,
    of stride 4.
    """

    def __init__(self, embedding: nn.Module, classifier: nn.Module | None) -> None:
        super().__init__()
        self.embedding, self.classifier = embedding, classifier

    def forward(self, image: Tensor) -> tuple[Tensor, ...] | Tensor:
        embedding = self.embedding(image)
        if self.classifier is None:
            return embedding
        scores = self.classifier(resize(embedding, image.shape[-2:]))
        return scores, embedding


def export_onnx(
    path: Path,
    config: Any,
    classes: Sequence[str],
    embedding: nn.Module,
    classifier: nn.Module | None,
    images: Sequence[Tensor],
) -> str:
    """Write an ONNX file that gives what PyTorch gives, for images of any size.

    Args:
        images: (3, H, W) each, normalised; both compute these and some of other sizes.

    Returns:
        One line: the file, and the largest difference.

    Raises:
        UserError: a network without an ONNX form, one that differs by more than CLOSE, or a missing package.
    """
    model, scorer = (None if one is None else copy.deepcopy(one).cpu().eval() for one in (embedding, classifier))
    assert model is not None
    network = Deployed(model, scorer).eval()
    outputs = OUTPUTS if classifier is not None else OUTPUTS[1:]
    image = torch.randn(TRACED[0], 3, *TRACED[1:], generator=torch.Generator().manual_seed(0))
    content = onnx_bytes(network, [image], ["image"], outputs, notes_of(config, classes))
    largest = _largest_difference(network, Graph(content), images)
    if largest == float("inf"):
        raise UserError(f"{path}: not written: this network has no ONNX form for images of any size, but for one alone")
    if not largest <= CLOSE:
        raise UserError(
            f"{path}: not written: expected the ONNX graph to give PyTorch's values to {CLOSE:g}, got {largest:.1e}"
        )
    write_graph(path, content)
    return f"{path}: {' and '.join(outputs)}, as PyTorch to {largest:.1e} on {len(images)} images and other sizes"


@torch.no_grad()
def _largest_difference(network: nn.Module, graph: Graph, images: Sequence[Tensor]) -> float:
    """The largest difference of any output, relative to its largest value or 1; inf for another shape."""
    batches = [image[None] for image in images]
    for height, width in SHORTER:  # two images at a time
        batches += [resize(image[None], (height, width)).expand(2, -1, -1, -1) for image in images[:1]]
    largest = 0.0
    for batch in batches:
        expected = network(batch)
        try:
            found = graph(batch)
        except Exception:  # an operation that keeps the traced size
            return float("inf")
        for one, other in zip((expected,) if isinstance(expected, Tensor) else expected, found, strict=True):
            if one.shape != other.shape:
                return float("inf")
            largest = max(largest, float((one - other).abs().max()) / max(1.0, float(one.abs().max())))
    return largest


def export_safetensors(
    path: Path, config: Any, classes: Sequence[str], embedding: nn.Module, classifier: nn.Module | None
) -> str:
    """Write the weights as `embedding_model.*` and `prediction_model.*`, and the settings as the file's metadata.

    Returns:
        One line.

    Raises:
        UserError: the package safetensors is missing, or the file cannot be written.
    """
    try:
        from safetensors.torch import save
    except ImportError as error:
        raise UserError(
            f"{path}: needs the package safetensors: pip install safetensors (spml's extra `export`)"
        ) from error
    parts = {"embedding_model": embedding, "prediction_model": classifier}
    state = {
        f"{name}.{key}": value.detach().cpu().contiguous().clone()
        for name, part in parts.items()
        if part is not None
        for key, value in part.state_dict().items()
    }
    content = save(state, {"format": "pt", **notes_of(config, classes)})
    write_atomically(path, lambda file: file.write(content))
    return f"{path}: {len(state)} tensors, {sum(value.nbytes for value in state.values()) / 1e6:.1f} MB"


def notes_of(config: Any, classes: Sequence[str]) -> dict[str, str]:
    """What a file says about itself: backbone, classes, means, deviations, the config without paths of this machine."""
    config = copy.deepcopy(config)
    for section, values in OWN.items():
        config[section].update(values)
    config.dataset.class_names = list(classes)
    with tempfile.TemporaryDirectory() as folder:
        save_config(config, Path(folder) / "config.yaml")
        text = (Path(folder) / "config.yaml").read_text("utf-8")
    network = config.network
    means, stds = ([float(value) for value in values] for values in (network.pixel_means, network.pixel_stds))
    return {
        "backbone": str(network.backbone_types),
        "classes": json.dumps(list(classes), ensure_ascii=False),
        "pixel_means": json.dumps(means),
        "pixel_stds": json.dumps(stds),
        "spml_config": text,
    }


def config_in(path: Path, notes: Mapping[str, str]) -> Any:
    """The config in a file's metadata. Raises UserError where it has none."""
    if "spml_config" not in notes:
        raise UserError(f"{path}: expected a file that model.export wrote, got one without spml_config in its metadata")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "config.yaml"
        place.write_text(notes["spml_config"], "utf-8")
        return load_config(place)


def read_safetensors(path: Path) -> tuple[Any, dict[str, dict[str, Tensor]]]:
    """The config and the state dict of each part of a file that `export_safetensors` wrote. Raises UserError."""
    try:
        from safetensors import safe_open
    except ImportError as error:
        raise UserError(
            f"{path}: needs the package safetensors: pip install safetensors (spml's extra `export`)"
        ) from error
    states: dict[str, dict[str, Tensor]] = {}
    try:
        with safe_open(path, "pt") as file:
            notes = file.metadata() or {}
            for key in file.keys():  # noqa: SIM118 - the file is no dict
                part, _, name = key.partition(".")
                states.setdefault(part, {})[name] = file.get_tensor(key)
    except Exception as error:  # its own error, or the system's
        raise UserError(f"{path}: cannot be read: {str(error).splitlines()[0]}") from error
    return config_in(path, notes), states
