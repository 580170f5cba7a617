"""What computes a trained network in inference: PyTorch as in training, or the same network made faster beforehand."""

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from spml.allocator import keep_memory
from spml.errors import UserError
from spml.inference.folded import can_fold, folded
from spml.inference.graph import TRACED, by_onnxruntime, by_openvino, onnx_bytes
from spml.models.layers import resize

AUTO = "auto"
RUNTIMES = {  # name: help
    AUTO: "folded on the CPU, torch elsewhere",
    "torch": "the network as it was trained",
    "folded": "float32, batch norms and ReLUs inside packed convolutions, 3x3 by Winograd's tiles; on the CPU",
    "onnx": "float32 by onnxruntime (extra `export`); on the CPU",
    "openvino": "float32 by OpenVINO (extras `export` and `openvino`); on the CPU",
    "bf16": "folded, convolutions in bfloat16: faster where the CPU has it, but some pixels get other labels",
}
CLOSE = 1e-3  # of the largest value: how far a rewritten network may lie from the trained one
PROBE = (1, 37, 45)  # batch, height, width of what both are asked


class Runtime(nn.Module):
    """A network that something else computes. Its state dict is that of the network, so records tell them as one.

    Args:
        network: the trained one, in eval mode.
        call: computes it.
        precise: in float32; else the state dict is rounded to bfloat16, so records tell it from the network.
    """

    def __init__(self, network: nn.Module, call: Callable[..., Tensor], precise: bool = True) -> None:
        super().__init__()
        self.network, self.call, self.precise = network, call, precise

    @torch.no_grad()
    def forward(self, *inputs: Any) -> Tensor:
        """As the network's."""
        if self.precise:
            return self.call(*inputs)
        with torch.autocast("cpu", torch.bfloat16):
            return self.call(*inputs).float()

    def state_dict(self, *arguments: Any, **options: Any) -> Any:
        """The network's own."""
        held = self.network.state_dict(*arguments, **options)
        if not self.precise:
            held = {key: value.bfloat16() if value.is_floating_point() else value for key, value in held.items()}
        return held


def for_inference(network: nn.Module, device: torch.device, runtime: str = "torch", channels: int = 3) -> nn.Module:
    """The network in eval mode on `device`, as `runtime` computes it.

    On the CPU it uses the memory format channels_last, which makes convolutions and the steps after them faster.

    Args:
        runtime: out of RUNTIMES. `auto` keeps to torch where the folded network does not give the same.
        channels: of its input.

    Raises:
        UserError: an unknown runtime, one that this machine or network cannot have, or one that gives other values.
    """
    check_runtime(runtime, device)
    network.eval().to(device)
    if device.type != "cpu":
        return network
    network.to(memory_format=torch.channels_last)
    keep_memory()
    if runtime == AUTO:
        if not can_fold():
            return network
        with contextlib.suppress(UserError):
            return _checked(network, folded(network), channels, "folded")
        return network
    if runtime == "torch":
        return network
    if runtime == "folded":
        return _checked(network, folded(network), channels, runtime)
    if runtime == "bf16":
        return Runtime(network, folded(network, precise=False), precise=False)
    probe = torch.randn(TRACED[0], channels, *TRACED[1:], generator=torch.Generator().manual_seed(0))
    content = onnx_bytes(network, [probe], ["image"], ["map"], {})
    return _checked(
        network, _AtSize(by_onnxruntime(content) if runtime == "onnx" else by_openvino(content)), channels, runtime
    )


class _AtSize(nn.Module):
    """A graph of one input, called as a network: with a size, its map is resized once more."""

    def __init__(self, graph: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.graph = graph

    def forward(self, image: Tensor, size: Sequence[int] | None = None) -> Tensor:
        found = self.graph(image)
        return found if size is None else resize(found, size)


def networks_for_inference(
    model: nn.Module, classifier: nn.Module | None, device: torch.device, runtime: str
) -> tuple[nn.Module, nn.Module | None]:
    """An embedding network and its classifier by `for_inference`."""
    if classifier is None:
        return for_inference(model, device, runtime), None
    first = next(part for part in classifier.modules() if isinstance(part, nn.Conv2d))
    return for_inference(model, device, runtime), for_inference(classifier, device, runtime, first.in_channels)


def check_runtime(runtime: str, device: torch.device) -> None:
    """Raises UserError: an unknown runtime, or one that is not for this device or this PyTorch."""
    if runtime not in RUNTIMES:
        raise UserError(f"--runtime: expected one of {', '.join(RUNTIMES)}, got {runtime!r}")
    if runtime in (AUTO, "torch"):
        return
    if device.type != "cpu":
        raise UserError(f"--runtime {runtime}: expected --device cpu, got {device}")
    if runtime in ("folded", "bf16") and not can_fold():
        raise UserError(f"--runtime {runtime}: needs a PyTorch with oneDNN: expected --runtime torch, onnx or openvino")


@torch.no_grad()
def _checked(network: nn.Module, call: Callable[..., Tensor], channels: int, runtime: str) -> Runtime:
    """The runtime, once it gives what the network gives on noise."""
    generator = torch.Generator().manual_seed(0)
    count, height, width = PROBE
    probe = torch.randn(count, channels, height, width, generator=generator)
    expected = network(probe)
    try:
        found = call(probe)
    except Exception as error:  # of a rewritten forward
        reason = str(error).strip().split("\n")[0]
        raise UserError(f"--runtime {runtime}: cannot compute this network: {reason}; --runtime torch can") from error
    largest = float((found - expected).abs().max()) / max(float(expected.abs().max()), 1e-30)
    if found.shape != expected.shape or not largest <= CLOSE:
        raise UserError(
            f"--runtime {runtime}: expected the network's values to {CLOSE:g} of the largest, got {largest:.1e}: "
            "take --runtime torch"
        )
    return Runtime(network, call)
