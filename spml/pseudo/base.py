"""Base of the sources of pseudo labels: what they need, what they return, and the released recipes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from spml.data.dataset import EvaluationSample
from spml.data.samples import Sample
from spml.inference.runtimes import AUTO
from spml.inference.views import ViewPlan

WALK_STEPS = 64  # the release squares the step matrix six times
NEEDS = ("snapshot", "label", "cam_dir", "memory_dir")  # what a source may need


@dataclass(frozen=True)
class Recipe:
    """The views, the steps of the walk (0: none) and whether a CRF follows."""

    scales: tuple[float, ...]
    flip: bool
    walk_steps: int
    crf: bool

    def plan(self, config: Any, max_pixels: int = 0) -> ViewPlan:
        """The views, with the crops of the config. `max_pixels`: an image or view with more is made smaller."""
        plan = ViewPlan.from_config(config, max_pixels)
        return replace(plan, scales=self.scales, flip=self.flip, image_size=0)


class Evidence(NamedTuple):
    """Scores of the classes and, for the walk, the embeddings of the views (the mirror image's is mirrored back)."""

    score: Tensor  # (K, h, w) float: at 1/8 of the image's size, or for retrieval at its whole size
    embedding: Tensor | None  # (V, D, h / 8, w / 8) float, of any length


@dataclass(frozen=True)
class Labeller:
    """A source that is ready for use: it gives the scores of an image, before the random walk propagates them."""

    plan: ViewPlan  # the views of an image

    reads_label: ClassVar[bool] = True  # of the image: its classes, or more
    reads_regions: ClassVar[bool] = False
    keeps_void: ClassVar[bool] = False  # pixels annotated 255 stay 255

    def __call__(self, read: EvaluationSample) -> Evidence | None:
        """What is known of an image; None: nothing."""
        raise NotImplementedError

    def contents(self, samples: Sequence[Sample]) -> Mapping[str, str]:
        """Hashes of the files that it reads, beside the samples and what its fields hold."""
        return {}


@dataclass(frozen=True)
class Materials:
    """The inputs of sources; each uses what it needs."""

    config: Any
    given_snapshot: Path | None  # None for sources that need none
    plan: ViewPlan  # image_size 0, as no procedure resizes the image
    device: torch.device
    samples: Sequence[Sample]
    walk_steps: int  # 0: no walk, so that no embeddings are needed for one
    cam_dir: Path | None = None
    memory_dir: Path | None = None
    runtime: str = AUTO  # what computes the networks

    @property
    def snapshot(self) -> Path:
        """The snapshot of a source that needs one."""
        assert self.given_snapshot is not None, "build_source checks it"
        return self.given_snapshot

    @property
    def num_classes(self) -> int:
        return int(self.config.dataset.num_classes)


@dataclass(frozen=True)
class Source:
    """An entry of the table of sources.

    Args:
        help: one line.
        needs: names from NEEDS. Folders that are given to another source are an error.
        ignores: options without effect on it, which are an error too: scales, flip, walk_steps, runtime.
        recipe: the released recipe.
        short: the released recipe for a walk of at most one step, if that is a separate procedure.
        build: makes the source. Raises UserError if something it needs is missing or does not fit.
    """

    help: str
    needs: tuple[str, ...]
    recipe: Recipe
    build: Callable[[Materials], Labeller]
    short: Recipe | None = None
    ignores: tuple[str, ...] = ()


def by_class_maximum(score: Tensor, present: Tensor) -> Tensor:
    """(K, h, w) scores >= 0, each class divided by its maximum; 0 for a class that is absent or has no score."""
    maximum = score.flatten(1).amax(1)  # (K,)
    known = present.to(score.device) & (maximum > 0)
    return torch.where(known[:, None, None], score / maximum[:, None, None], 0)


def classes_of(read: EvaluationSample, num_classes: int) -> Tensor:
    """(K,) bool: the classes in the image's label."""
    assert read.semantic is not None
    return torch.bincount(read.semantic.flatten(), minlength=256)[:num_classes] > 0
