"""Networks that say which near pixels belong to one object: AffinityNet's features, IRN's edges and displacements.

Both take any backbone of the table: they bring its levels to one stride, whatever strides those have.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spml.errors import UserError
from spml.models.backbones.base import Encoder
from spml.models.checkpoint import find_snapshot, fit, load_parts, read_weights
from spml.models.embedding import build_backbone
from spml.models.layers import convolution, rescale
from spml.models.pretrained import PACKAGE, TIMM, load_pretrained

FEATURE_STRIDE, EDGE_STRIDE = 8, 4  # of AffinityNet's features and of IRN's maps
WIDTHS = (64, 128, 256)  # of AffinityNet's three levels, shallow to deep, as published
EDGE_WIDTH, FINE_WIDTH, WIDTH = 32, 64, 256  # of IRN's levels: for edges; for displacements above stride 4, and below


class PairModel(nn.Module):
    """A backbone and heads on its maps. Keys: `resnet_backbone.*` (of timm's networks `backbone.*`), and the heads'."""

    def __init__(self, backbone: Encoder) -> None:
        super().__init__()
        self.backbone_name = backbone.key
        self.add_module(backbone.key, backbone)

    @property
    def encoder(self) -> Any:
        """The backbone."""
        return self.get_submodule(self.backbone_name)

    def levels(self, image: Tensor) -> list[Tensor]:
        """The backbone's maps of (B, 3, H, W), normalised images of any size."""
        if image.dim() != 4 or image.shape[1] != 3:
            raise ValueError(f"image: expected (B, 3, H, W), got {tuple(image.shape)}")
        return list(self.encoder.stages(image))


class AffinityModel(PairModel):
    """AffinityNet (Ahn and Kwak, CVPR 2018): 1x1 convolutions of three levels to 64, 128 and 256 channels, each with
    ELU, concatenated at stride 8, then a 1x1 convolution of all 448 with ELU. No layer of the head has a bias.
    """

    def __init__(self, backbone: Encoder) -> None:
        """The last three levels of `backbone` count. Raises UserError if it has fewer."""
        super().__init__(backbone)
        if len(backbone.channels) < len(WIDTHS):
            raise UserError(
                f"network.backbone_types: AffinityNet needs {len(WIDTHS)} maps of the backbone, which gives "
                f"{len(backbone.channels)} with network.levels as it is"
            )
        layers = [
            convolution(channels, width, kernel=1)
            for channels, width in zip(backbone.channels[-len(WIDTHS) :], WIDTHS, strict=True)
        ]
        for layer in layers:
            nn.init.kaiming_normal_(layer.weight)
        self.first = nn.ModuleList(layers)
        self.last = convolution(sum(WIDTHS), sum(WIDTHS), kernel=1)
        nn.init.xavier_uniform_(self.last.weight, gain=4)

    def forward(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) float, normalised, any H, W >= 1 -> features (B, 448, ceil(H / 8), ceil(W / 8)) above -1."""
        size, strides = cells(image, FEATURE_STRIDE), self.encoder.strides[-len(WIDTHS) :]
        found = [
            F.elu(layer(rescale(level, stride, FEATURE_STRIDE, size)))
            for layer, level, stride in zip(self.first, self.levels(image)[-len(WIDTHS) :], strides, strict=True)
        ]
        return F.elu(self.last(torch.cat(found, dim=1)))


class IrnModel(PairModel):
    """IRN (Ahn, Cho and Kwak, CVPR 2019): boundaries and displacements, two branches of 1x1 convolutions on all levels.

    Edges: each level to 32 channels with group norm and ReLU, concatenated at stride 4, to one logit. Displacements:
    each level to 256 channels (128 at stride 4, 64 above); levels of strides beyond 4 meet at the finest of them and
    become 256; all meet at stride 4, become 256, then dy and dx. Weights start as PyTorch's do: drawn for the outputs,
    as in our heads, they would saturate the one edge.
    """

    def __init__(self, backbone: Encoder) -> None:
        super().__init__(backbone)
        strides = backbone.strides
        self.edge = nn.ModuleList(grouped(channels, EDGE_WIDTH, 4) for channels in backbone.channels)
        self.edge_last = convolution(EDGE_WIDTH * len(strides), 1, kernel=1, bias=True)
        widths = [FINE_WIDTH if s < EDGE_STRIDE else 2 * FINE_WIDTH if s == EDGE_STRIDE else WIDTH for s in strides]
        self.displacement = nn.ModuleList(
            grouped(channels, width) for channels, width in zip(backbone.channels, widths, strict=True)
        )
        coarse = [width for width, stride in zip(widths, strides, strict=True) if stride > EDGE_STRIDE]
        self.coarse_stride = min([stride for stride in strides if stride > EDGE_STRIDE], default=EDGE_STRIDE)
        self.displacement_coarse = grouped(sum(coarse), WIDTH) if coarse else None
        total = sum(widths) - sum(coarse) + (WIDTH if coarse else 0)
        self.displacement_last = nn.Sequential(
            grouped(total, WIDTH), nn.ReLU(inplace=True), convolution(WIDTH, 2, kernel=1)
        )

    def branches(self) -> dict[str, list[nn.Module]]:
        """The modules of each branch: `edge` and `displacement`."""
        coarse = [] if self.displacement_coarse is None else [self.displacement_coarse]
        return {
            "edge": [self.edge, self.edge_last],
            "displacement": [self.displacement, *coarse, self.displacement_last],
        }

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Edges and displacements of normalised images, any H, W >= 1; h = ceil(H / 4), w = ceil(W / 4).

        Args:
            image: (B, 3, H, W) float.

        Returns:
            (B, h, w) logits, high on a boundary; and (B, 2, h, w), dy and dx in cells to the centre of the object.
        """
        maps = self.levels(image)
        return self.edges(image, maps), self.displacements(image, maps)

    def edges(self, image: Tensor, maps: Sequence[Tensor] | None = None) -> Tensor:
        """The logits of the edges alone; `maps` if the levels are there."""
        maps, size = self.levels(image) if maps is None else maps, cells(image, EDGE_STRIDE)
        found = [
            F.relu(rescale(layer(level), stride, EDGE_STRIDE, size))
            for layer, level, stride in zip(self.edge, maps, self.encoder.strides, strict=True)
        ]
        return self.edge_last(torch.cat(found, dim=1))[:, 0]

    def displacements(self, image: Tensor, maps: Sequence[Tensor]) -> Tensor:
        """(B, 2, h, w) from the levels."""
        fine, coarse = [], []
        size, coarse_size = cells(image, EDGE_STRIDE), cells(image, self.coarse_stride)
        for layer, level, stride in zip(self.displacement, maps, self.encoder.strides, strict=True):
            if stride > EDGE_STRIDE:
                coarse.append(F.relu(rescale(layer(level), stride, self.coarse_stride, coarse_size)))
            else:
                fine.append(F.relu(rescale(layer(level), stride, EDGE_STRIDE, size)))
        if self.displacement_coarse is not None:
            joined = self.displacement_coarse(torch.cat(coarse, dim=1))
            fine.append(F.relu(rescale(joined, self.coarse_stride, EDGE_STRIDE, size)))
        return self.displacement_last(torch.cat(fine, dim=1))


def grouped(in_channels: int, out_channels: int, groups: int | None = None) -> nn.Sequential:
    """1x1 convolution without bias and group norm, by default of 16 channels a group; ReLU follows after resizing."""
    norm = nn.GroupNorm(groups or max(1, out_channels // 16), out_channels)
    return nn.Sequential(convolution(in_channels, out_channels, kernel=1), norm)


def cells(image: Tensor, stride: int) -> tuple[int, int]:
    """(ceil(H / stride), ceil(W / stride)) of (.., H, W)."""
    return -(-image.shape[-2] // stride), -(-image.shape[-1] // stride)


def build_affinity_model(config: Any, bn_momentum: float | None = None) -> AffinityModel:
    """AffinityNet on the backbone of a config, with fresh weights; see `spml.models.embedding.build_backbone`.

    Raises:
        UserError: an unknown backbone, or one with fewer than three levels.
    """
    return AffinityModel(build_backbone(config, bn_momentum))


def build_irn_model(config: Any, bn_momentum: float | None = None) -> IrnModel:
    """IRN on the backbone of a config, with fresh weights; see `spml.models.embedding.build_backbone`.

    Raises:
        UserError: an unknown backbone.
    """
    return IrnModel(build_backbone(config, bn_momentum))


def load_affinity_model(config: Any, path: str | Path) -> AffinityModel:
    """AffinityNet with the weights of a snapshot of the task affinity, in eval mode, on the CPU.

    Raises:
        UserError, CheckpointError: as `build_affinity_model` and `load_parts`.
    """
    model = build_affinity_model(config)
    load_parts(path, {"affinity_model": model})
    return model.eval()


def load_irn_model(config: Any, path: str | Path) -> IrnModel:
    """IRN with the weights of a snapshot of the task irn, in eval mode, on the CPU.

    Raises:
        UserError, CheckpointError: as `build_irn_model` and `load_parts`.
    """
    model = build_irn_model(config)
    load_parts(path, {"irn_model": model})
    return model.eval()


def load_start(source: str, model: PairModel, part: str) -> str:
    """Copy the weights that `network.pretrained` names; of a snapshot of another task, such as cam, the backbone's.

    Args:
        source: as in `load_pretrained`.
        part: the name of the model in its own snapshots.

    Returns:
        One line saying what was loaded; empty for an empty source.

    Raises:
        UserError, CheckpointError: as `load_pretrained`.
    """
    if source and source != TIMM and not source.startswith(PACKAGE):
        path = find_snapshot(source, "network.pretrained")
        content = read_weights(path)
        prefix = f"{model.backbone_name}."
        others = {} if content.get(part) or "embedding_model" not in content else content
        for name, state in others.items():
            found = state if isinstance(state, Mapping) else {}
            own = {key.removeprefix(prefix): value for key, value in found.items() if str(key).startswith(prefix)}
            if own:
                model.encoder.load_state_dict(fit(path, model.encoder, own), strict=False)
                return f"{path}: the backbone of its {name} ({len(own)} entries); the rest keeps its initial weights"
    return load_pretrained(source, model, part)
