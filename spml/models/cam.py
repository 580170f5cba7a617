"""Class activation maps (CAMs): a classification network whose maps tell where it sees a class (Zhou et al., 2016)."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spml.errors import UserError
from spml.models.backbones.base import Encoder
from spml.models.checkpoint import load_parts
from spml.models.embedding import build_backbone
from spml.models.layers import convolution
from spml.models.pixel_correlation import PixelCorrelation
from spml.propagate.cam import foreground_classes

CAM_TASKS = ("cam", "seam", "ppc")  # that train one; the last has one of the first two kinds
PROJECTION_WIDTH = 128


@dataclass(frozen=True)
class CamOutput:
    """The output of a CAM network for a batch; K counts the background, which has no map."""

    activation: Tensor  # (B, K - 1, h, w), raw, of the backbone's stride: 8 as released
    logit: Tensor  # (B, K - 1), the mean of the activation
    refined: Tensor | None  # (B, K - 1, h, w) in [0, 1]: SEAM's pixel correlation; None in plain CAM
    feature: Tensor  # (B, C, h, w), the backbone's last map, of which the activation is made


class Projection(nn.Sequential):
    """1x1 convolution of the last map to 128 channels, then ReLU: the features that PPC contrasts; key `0.weight`."""

    def __init__(self, in_channels: int) -> None:
        layer = convolution(in_channels, PROJECTION_WIDTH, kernel=1)
        nn.init.xavier_uniform_(layer.weight)
        super().__init__(layer, nn.ReLU())


class CamModel(nn.Module):
    """Backbone, 1x1 convolution without bias, global average pooling; SEAM adds the pixel correlation module.

    Keys: `resnet_backbone.*` (of timm's networks `backbone.*`), `class_weight.weight` (K - 1, C, 1, 1), and
    `pixel_correlation.*` for SEAM.
    """

    def __init__(self, backbone: Encoder, num_classes: int, seam: bool) -> None:
        """`num_classes` counts a background, which has no map."""
        super().__init__()
        self.backbone_name = backbone.key
        self.add_module(backbone.key, backbone)
        self.class_weight = convolution(backbone.channels[-1], num_classes - 1, kernel=1)
        # Scaled by inputs. Scaled by outputs, as elsewhere, the first logits would saturate: there are few outputs.
        nn.init.xavier_uniform_(self.class_weight.weight)
        middle, late = backbone.channels[-3:-1]
        self.pixel_correlation = PixelCorrelation(middle, late) if seam else None

    def forward(self, image: Tensor, tag: Tensor | None = None) -> CamOutput:
        """Activation and logits, and the refined maps for SEAM.

        Args:
            image: (B, 3, H, W) float, normalised; any H, W >= 1.
            tag: (B, K - 1) bool, the known classes of each image. The other classes then do not compete for pixels in
                the pixel correlation; activation and logits do not change. None: all classes compete, as published.
        """
        if image.dim() != 4 or image.shape[1] != 3:
            raise ValueError(f"image: expected (B, 3, H, W), got {tuple(image.shape)}")
        backbone: Any = self.get_submodule(self.backbone_name)
        *_, middle, late, last = backbone.stages(image)
        activation = self.class_weight(last)  # (B, K - 1, H / 8, W / 8) as released
        refined = None
        if self.pixel_correlation is not None:
            competing = activation if tag is None else activation * tag[:, :, None, None]
            refined = self.pixel_correlation(competing, image, middle, late)
        return CamOutput(activation, activation.mean((2, 3)), refined, last)

    @torch.no_grad()
    def maps(self, image: Tensor, tag: Tensor | None = None) -> Tensor:
        """(B, K - 1, h, w) >= 0, not normalised: for SEAM the refined maps, else ReLU of the activation."""
        output = self(image, tag)
        return F.relu(output.activation if output.refined is None else output.refined)


def build_cam_model(config: Any, bn_momentum: float | None = None) -> CamModel:
    """The CAM network of a config, with fresh weights drawn from torch's global generator.

    Args:
        config: as `spml.config.load_config` returns it. It reads train.task (cam, seam, or ppc, whose kind ppc.cams
            says), network.backbone_types (without its head), dataset.num_classes and .background; every class but the
            background gets a map.
        bn_momentum: of the batch norms, as in `build_embedding_model`.

    Raises:
        UserError: a config of another task, or an unknown backbone.
    """
    task = config.train.task
    if task not in CAM_TASKS:
        raise UserError(f"train.task: expected {' or '.join(CAM_TASKS)} for a CAM network, got {task!r}")
    kind = config.ppc.cams if task == "ppc" else task
    backbone = build_backbone(config, bn_momentum)
    objects = foreground_classes(int(config.dataset.num_classes), config.dataset.background)
    return CamModel(backbone, len(objects) + 1, seam=kind == "seam")


def load_cam_model(config: Any, path: str | Path) -> CamModel:
    """The CAM network of a config with the weights of a snapshot, in eval mode, on the CPU.

    Args:
        path: `model-<i>.pth` of the task cam, seam or ppc.

    Raises:
        UserError: see `build_cam_model`.
        CheckpointError: a file that cannot be read, or keys and shapes of another network; it names them.
    """
    model = build_cam_model(config)
    load_parts(path, {"cam_model": model})
    return model.eval()
