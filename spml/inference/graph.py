"""Networks as ONNX graphs for images of any size, and what computes them: onnxruntime or OpenVINO."""

import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from spml.errors import UserError
from spml.files import write_atomically

OPSET = 18
TRACED = (2, 75, 93)  # batch, height and width of the image that is traced; no size is special
EXTRA = "pip install onnx onnxruntime (spml's extra `export`)"


def onnx_bytes(
    network: nn.Module, inputs: Sequence[Tensor], names: Sequence[str], outputs: Sequence[str], notes: Mapping[str, str]
) -> bytes:
    """A network as an ONNX file whose batch, height and width are free.

    Args:
        network: in eval mode on the CPU; float32 tensors to one tensor or several.
        names, outputs: of its inputs and outputs, (B, C, H, W) each.
        notes: the file's metadata.

    Raises:
        UserError: the package onnx is missing, or the network has operations without a form for any size.
    """
    try:
        import onnx
    except ImportError as error:
        raise UserError(f"ONNX needs the package onnx: {EXTRA}") from error
    axes = {name: {0: "batch", 2: f"{name}_height", 3: f"{name}_width"} for name in (*names, *outputs)}
    options: dict[str, Any] = {
        "opset_version": OPSET,
        "dynamic_axes": axes,
        "dynamo": False,  # the newer way takes 20 times as long
        "operator_export_type": torch.onnx.OperatorExportTypes.ONNX_FALLTHROUGH,  # else it prints pages before an error
    }
    try:
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # of constants, which the check would find wrong
            path = str(Path(folder) / "model.onnx")
            torch.onnx.export(
                network, tuple(inputs), path, input_names=list(names), output_names=list(outputs), **options
            )
            model = onnx.load(path)
    except Exception as error:  # of every operation in its own way
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise UserError(f"this network has no ONNX form for images of any size: {reason[:200]}") from error
    known = {"", "ai.onnx"}
    foreign = sorted({node.op_type for node in model.graph.node if node.domain not in known})
    if foreign:
        raise UserError(f"this network has no ONNX form for images of any size: no operation for {', '.join(foreign)}")
    onnx.helper.set_model_props(model, {**{entry.key: entry.value for entry in model.metadata_props}, **notes})
    return model.SerializeToString()


class Graph:
    """An ONNX file that onnxruntime computes on the CPU.

    Args:
        source: its path or its bytes.

    Raises:
        UserError: onnxruntime is missing, or cannot read it.
    """

    def __init__(self, source: str | Path | bytes) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise UserError(f"ONNX files need the package onnxruntime: {EXTRA}") from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 4  # what it says, the exceptions say
        given = source if isinstance(source, bytes) else str(source)
        try:
            self.session = onnxruntime.InferenceSession(given, options, providers=["CPUExecutionProvider"])
        except Exception as error:
            reason = str(error).strip().split("\n")[0]
            raise UserError(
                f"{'the graph' if isinstance(source, bytes) else source}: cannot be read: {reason}"
            ) from error
        self.inputs = [one.name for one in self.session.get_inputs()]
        self.outputs = [one.name for one in self.session.get_outputs()]
        self.notes: dict[str, str] = dict(self.session.get_modelmeta().custom_metadata_map)

    def __call__(self, image: Tensor, outputs: Sequence[str] | None = None) -> list[Tensor]:
        """The outputs, by default all, for one input."""
        given = {self.inputs[0]: np.ascontiguousarray(image.numpy())}
        return [torch.from_numpy(one) for one in self.session.run(list(outputs or self.outputs), given)]


def by_onnxruntime(content: bytes) -> Callable[[Tensor], Tensor]:
    """What computes the first output of an ONNX file by onnxruntime. Raises UserError where it is missing."""
    graph = Graph(content)
    return lambda image: graph(image, graph.outputs[:1])[0]


def by_openvino(content: bytes) -> Callable[[Tensor], Tensor]:
    """What computes the first output of an ONNX file by OpenVINO in float32. Raises UserError where it is missing."""
    try:
        import openvino
    except ImportError as error:
        raise UserError(
            "--runtime openvino needs the package openvino: pip install openvino (spml's extra `openvino`)"
        ) from error
    settings = {
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "INFERENCE_PRECISION_HINT": "f32",
        "PERFORMANCE_HINT": "LATENCY",
    }
    core = openvino.Core()
    model = core.compile_model(core.read_model(content), "CPU", settings)
    return lambda image: torch.from_numpy(model(np.ascontiguousarray(image.numpy()))[0].copy())


def write_graph(path: Path, content: bytes) -> None:
    """Write an ONNX file, atomically."""
    write_atomically(path, lambda file: file.write(content))
