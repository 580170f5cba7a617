"""A trained network rewritten for inference on the CPU: fewer operations, the same function.

Batch norms are folded into the convolutions before them, ReLUs and sums with a shortcut follow in the same operation,
the weights lie in the layout that oneDNN computes with, and 3x3 convolutions of many channels go by Winograd's tiles.
It needs no library and no compiler beside PyTorch.
"""

import copy
import operator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from spml.inference.winograd import Winograd, fits, pays

SUMS = (operator.add, operator.iadd, torch.add)
RELUS = (F.relu, F.relu_, torch.relu, torch.relu_)
REPACK = 3  # the layout of weights works for all maps, but is fast for some: maps so many times as large get their own
KERNELS: Any = torch.ops.mkldnn  # oneDNN's operations with packed weights, as torch.compile calls them


def can_fold() -> bool:
    """Whether this PyTorch has oneDNN's packed convolutions."""
    return torch.backends.mkldnn.is_available() and hasattr(KERNELS, "_convolution_pointwise")


class Packed(nn.Module):
    """A convolution with a bias, then, if asked for, the sum with a shortcut, then ReLU, as one operation."""

    def __init__(self, convolution: nn.Conv2d, weight: Tensor, bias: Tensor | None, relu: bool, precise: bool) -> None:
        super().__init__()
        assert not isinstance(convolution.padding, str)
        self.padding, self.stride = list(convolution.padding), list(convolution.stride)
        self.dilation, self.groups, self.relu = list(convolution.dilation), convolution.groups, relu
        self.tiled = Winograd(weight, bias, self.dilation[0], relu) if precise and fits(convolution) else None
        dtype = torch.float32 if precise else torch.bfloat16
        self.plain, self.packed, self.packed_for = weight.to(dtype), weight, 0  # packed for maps of so many pixels
        self.bias = None if bias is None else bias.to(dtype)

    def forward(self, x: Tensor, shortcut: Tensor | None = None) -> Tensor:
        """(B, C, H, W) float, any layout -> (B, O, h, w), channels last."""
        x = x.to(self.plain.dtype).contiguous(memory_format=torch.channels_last)
        if self.tiled is not None and shortcut is None and pays(x.shape[2], x.shape[3], self.dilation[0]):
            return self.tiled(x)
        pixels = x.numel() // x.shape[1]
        if not self.packed_for / REPACK <= pixels <= self.packed_for * REPACK:
            where = (self.padding, self.stride, self.dilation, self.groups)
            self.packed = KERNELS._reorder_convolution_weight(self.plain, *where, list(x.shape))
            self.packed_for = pixels
        settings = (self.packed, self.bias, self.padding, self.stride, self.dilation, self.groups)
        if shortcut is not None and shortcut.shape == self._shape(x):
            shortcut = shortcut.to(x.dtype).contiguous(memory_format=torch.channels_last)
            after_sum = "relu" if self.relu else None
            return KERNELS._convolution_pointwise(x, shortcut, *settings, "add", 1.0, after_sum, [], "")
        if shortcut is not None:  # one of the two is the same everywhere, as an image's mean is
            total = KERNELS._convolution_pointwise(x, *settings, "none", [], "") + shortcut
            return total.relu_() if self.relu else total
        return KERNELS._convolution_pointwise(x, *settings, "relu" if self.relu else "none", [], "")

    def _shape(self, x: Tensor) -> tuple[int, ...]:
        sides = [
            (x.shape[axis + 2] + 2 * self.padding[axis] - self.dilation[axis] * (self.plain.shape[axis + 2] - 1) - 1)
            // self.stride[axis]
            + 1
            for axis in (0, 1)
        ]
        return (len(x), len(self.plain), *sides)


@torch.no_grad()
def folded(network: nn.Module, precise: bool = True) -> nn.Module:
    """A rewritten copy of a network in eval mode on the CPU.

    Every part whose forward is a fixed sequence of operations is rewritten; what chooses by the size of its input stays
    as it is, and its parts are looked at.

    Args:
        precise: float32; else convolutions compute in bfloat16, which about halves the time, and their results keep
            some three digits.
    """
    return _rewritten(copy.deepcopy(network).eval(), precise)


def _rewritten(module: nn.Module, precise: bool) -> nn.Module:
    if not any(isinstance(part, nn.Conv2d) for part in module.modules()):
        return module
    if isinstance(module, nn.Conv2d):
        return _pack(module, None, False, precise) if _is_plain(module) else module
    graph = _trace(module)
    if graph is not None:
        traced = fx.GraphModule(module, graph)
        _fuse(traced, precise)
        traced.recompile()
        return traced
    for name, child in module.named_children():
        setattr(module, name, _rewritten(child, precise))
    return module


class _Tracer(fx.Tracer):
    """Keeps convolutions and batch norms of any package whole."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, (nn.Conv2d, nn.BatchNorm2d)) or super().is_leaf_module(m, module_qualified_name)


def _trace(module: nn.Module) -> fx.Graph | None:
    """The operations of a module; None where they depend on its input, or where others call more than its forward."""
    if callable(getattr(module, "stages", None)) or isinstance(module, (nn.ModuleList, nn.ModuleDict)):
        return None
    try:
        return _Tracer().trace(module)
    except Exception:  # a forward that looks at sizes fails in its own way
        return None


def _is_plain(module: nn.Module) -> bool:
    """A convolution of PyTorch itself: subclasses may pad in ways of their own."""
    return type(module) is nn.Conv2d and module.padding_mode == "zeros" and not isinstance(module.padding, str)


def _pack(convolution: nn.Conv2d, norm: nn.BatchNorm2d | None, relu: bool, precise: bool) -> Packed:
    weight, bias = convolution.weight.detach(), convolution.bias
    if norm is not None:
        assert norm.running_mean is not None and norm.running_var is not None
        statistics = (norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias)
        weight, bias = fuse_conv_bn_weights(weight, bias, *statistics)
    return Packed(convolution, weight.detach(), None if bias is None else bias.detach(), relu, precise)


def _fuse(traced: fx.GraphModule, precise: bool) -> None:
    """Replace each convolution, and what follows it alone, by one operation."""
    modules, graph = dict(traced.named_modules()), traced.graph
    targets = [node.target for node in graph.nodes if node.op == "call_module"]
    for node in list(graph.nodes):
        convolution = _module(node, modules)
        if not isinstance(convolution, nn.Conv2d) or not _is_plain(convolution) or targets.count(node.target) > 1:
            continue
        chain, norm = [node], None
        after = _only_user(node)
        if after is not None and _folds(_module(after, modules)) and targets.count(after.target) == 1:
            norm = modules[str(after.target)]
            if getattr(norm, "act", None) is None:
                chain.append(after)
            else:  # timm's batch norm with an activation: that stays in its place
                traced.add_submodule(str(after.target), nn.Sequential(norm.drop, norm.act))
        total = None if len(chain) == 1 and norm is not None else _only_user(chain[-1])
        shortcut = None if total is None else _shortcut(total, chain[-1])
        if shortcut is not None:
            chain.append(total)
        relu = None if len(chain) == 1 and norm is not None else _only_user(chain[-1])
        if relu is not None and _is_relu(relu, modules):
            chain.append(relu)
        else:
            relu = None
        name = str(node.target)
        traced.add_submodule(name, _pack(convolution, norm, relu is not None, precise))
        with graph.inserting_before(chain[-1]):
            made = graph.call_module(name, (node.args[0],) if shortcut is None else (node.args[0], shortcut))
        chain[-1].replace_all_uses_with(made)
        for old in reversed(chain):
            graph.erase_node(old)
    traced.delete_all_unused_submodules()


def _module(node: fx.Node, modules: dict[str, nn.Module]) -> nn.Module | None:
    return modules.get(str(node.target)) if node.op == "call_module" else None


def _folds(module: nn.Module | None) -> bool:
    """A batch norm with statistics: PyTorch's, or timm's with an activation."""
    if not isinstance(module, nn.BatchNorm2d) or module.running_mean is None:
        return False
    return type(module) is nn.BatchNorm2d or all(
        isinstance(getattr(module, n, None), nn.Module) for n in ("drop", "act")
    )


def _only_user(node: fx.Node) -> fx.Node | None:
    return next(iter(node.users)) if len(node.users) == 1 else None


def _shortcut(total: fx.Node, own: fx.Node) -> fx.Node | None:
    """What is added to `own` in a plain sum of two maps; None where `total` is something else."""
    if total.op != "call_function" or total.target not in SUMS or total.kwargs or len(total.args) != 2:
        return None
    one, other = total.args
    if other is own and total.target is not operator.iadd:  # which would change the other one in its place
        one, other = other, one
    return other if one is own and isinstance(other, fx.Node) and other is not own else None


def _is_relu(node: fx.Node, modules: dict[str, nn.Module]) -> bool:
    if node.op == "call_function":
        return node.target in RELUS
    return type(_module(node, modules)) is nn.ReLU
