"""A model that an ONNX file holds, for predictions on the CPU by onnxruntime."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from spml.errors import UserError
from spml.inference.export import OUTPUTS, config_in
from spml.inference.graph import Graph
from spml.inference.model import Model, Picture
from spml.inference.predictors import Predictor, SoftmaxPredictor
from spml.inference.views import ViewPlan
from spml.models.layers import resize

LIMITS = "an ONNX file predicts, embeds and remembers on the CPU: expected a snapshot or .safetensors for the rest"


class GraphEmbedding(nn.Module):
    """The embedding of an ONNX file, as EmbeddingModel gives it. Its state dict is a hash of the file."""

    digest: Tensor

    def __init__(self, graph: Graph, content: bytes) -> None:
        super().__init__()
        self.graph = graph
        self.register_buffer("digest", torch.frombuffer(bytearray(hashlib.sha256(content).digest()), dtype=torch.uint8))

    def forward(self, image: Tensor, size: Sequence[int] | None = None) -> Tensor:
        """(B, 3, H, W) -> (B, D, h, w), raw, of stride 4 or of the size."""
        (embedding,) = self.graph(image, OUTPUTS[1:])
        return embedding if size is None else resize(embedding, size)


@dataclass(frozen=True)
class GraphPredictor(SoftmaxPredictor):
    """The scores of an ONNX file; logits are averaged where crops overlap."""

    def _classify(self, crop: Tensor, size: tuple[int, int]) -> Tensor:
        assert isinstance(self.model, GraphEmbedding)
        return self.model.graph(crop, OUTPUTS[:1])[0]


class OnnxModel(Model):
    """`Model` without networks of PyTorch: see LIMITS."""

    def __init__(self, path: Path, config: Any = None) -> None:
        """Read a file that `export_onnx` wrote. Raises UserError."""
        graph = Graph(path)
        if OUTPUTS[1] not in graph.outputs:
            raise UserError(f"{path}: expected the outputs {' and '.join(OUTPUTS)}, got {', '.join(graph.outputs)}")
        found = GraphEmbedding(graph, path.read_bytes())
        super().__init__(config_in(path, graph.notes) if config is None else config, found, None, torch.device("cpu"))
        self.name, self.graph = path.name, graph

    @cached_property
    def _networks(self) -> tuple[nn.Module, nn.Module | None]:
        return self.embedding, None

    def _default_predictor(self) -> str:
        return "softmax" if OUTPUTS[0] in self.graph.outputs else super()._default_predictor()

    def _predictor(self, kind: str, plan: ViewPlan) -> Predictor:
        if kind == "softmax" and OUTPUTS[0] in self.graph.outputs:
            return GraphPredictor(self.embedding, self.embedding, plan, self.device)
        return super()._predictor(kind, plan)

    def save(self, folder: str | Path) -> Path:
        """Raises UserError: the file holds no weights."""
        raise UserError(f"{self.name}: cannot be saved as a snapshot: {LIMITS}")

    def export(self, path: str | Path, images: Sequence[Picture] = ()) -> str:
        """Raises UserError: the file holds no weights."""
        raise UserError(f"{self.name}: cannot be exported again: {LIMITS}")
