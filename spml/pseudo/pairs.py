"""What the sources affinity and irn share: CAMs at the cells of a network's maps, and the maps of all views."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from spml.data.dataset import EvaluationSample
from spml.data.samples import Sample
from spml.errors import UserError
from spml.inference.cams import background_of
from spml.inference.whole_views import unmirrored
from spml.models.layers import rescale, resize
from spml.pseudo.base import Labeller, Materials
from spml.pseudo.cam import check_cams, hash_cams, read_scores

Size = tuple[int, int]


@dataclass(frozen=True)
class PairLabeller(Labeller):
    """CAMs walk over the cells of the largest view by affinities of near pixels. It does not use labels.

    Where no class is background, it gives no scores for an image without CAMs.
    """

    device: torch.device
    cam_dir: Path
    num_classes: int
    background: int | None
    beta: float
    steps: int
    stride: ClassVar[int]  # pixels of the view to a cell
    reads_label: ClassVar[bool] = False

    def contents(self, samples: Sequence[Sample]) -> Mapping[str, str]:
        """The CAM files of the samples."""
        return hash_cams(self.cam_dir, samples)

    def classes(self, read: EvaluationSample, alpha: float) -> tuple[list[int], Tensor]:
        """The classes that have CAMs, and `cam_scores` (K, H, W) of the image, on the device."""
        path, size = self.cam_dir / f"{read.name}.npy", (read.image.shape[1], read.image.shape[2])
        classes, score = read_scores(path, self.num_classes, size, alpha, self.background)
        return classes, score.to(self.device)

    def view(self, image: Tensor) -> Size:
        """The size of the largest view of (3, H, W)."""
        return max(self.plan.view_sizes((image.shape[1], image.shape[2])), key=lambda size: size[0] * size[1])

    def cells(self, score: Tensor, view: Size) -> Tensor:
        """(P, H, W) scores of an image -> (P, h, w), their means over the cells of the view."""
        size = (-(-view[0] // self.stride), -(-view[1] // self.stride))
        return rescale(resize(score[None], view), 1, self.stride, size)[0]

    def pixels(self, score: Tensor, image: Tensor, view: Size) -> Tensor:
        """The reverse, bilinear: (P, h, w) -> (P, H, W) at the size at which (3, H, W) is labelled."""
        large = rescale(score[None], self.stride, 1, view)
        return resize(large, self.plan.output_size((image.shape[1], image.shape[2])))[0]

    def maps(self, image: Tensor, network: Callable[[Tensor], Tensor], size: Size) -> Tensor:
        """(V, C, h, w): the network's maps of all views of (3, H, W), mirror images mirrored back, at one size."""
        views = (views.to(self.device) for views in self.plan.views(image))
        return torch.cat([resize(unmirrored(network(batch).float()), size) for batch in views])


def shared_fields(materials: Materials, source: str) -> dict[str, Any]:
    """The fields of `PairLabeller` for the source `source`, which is also the name of its task.

    The config's steps count, unless the caller gives some: these sources are a walk, so 0 steps mean the config's.

    Raises:
        UserError: a config of another task; CAM files that are missing.
    """
    config, samples = materials.config, materials.samples
    if config.train.task != source:
        raise UserError(
            f"--source {source}: expected a config whose train.task is {source}, got train.task {config.train.task}"
        )
    return {
        "plan": materials.plan,
        "device": materials.device,
        "cam_dir": check_cams(materials.cam_dir, samples, f"--source {source}"),
        "num_classes": materials.num_classes,
        "background": background_of(config),
        "beta": float(config[source].beta),
        "steps": materials.walk_steps or int(config[source].steps),
    }
