"""Label images from a trained embedding, by retrieval from a memory or by the softmax classifier."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from spml.data.dataset import EvaluationSample
from spml.data.listed import only
from spml.data.samples import Sample
from spml.errors import UserError
from spml.inference.loop import Job, go_through
from spml.inference.memory import FULL_MASKS, check_memory, draw, index_file, of_full_masks, read_memory
from spml.inference.outputs import LABELS, Refining, label_file, write_clusters, write_image
from spml.inference.runtimes import AUTO, check_runtime, networks_for_inference
from spml.inference.segmenter import Segmenter
from spml.inference.views import ViewPlan, resize_label, slide
from spml.inference.whole_views import unmirrored
from spml.models import build_classifier, build_embedding_model, load_checkpoint
from spml.models.layers import resize
from spml.processes import all_do, rank, say, world_size
from spml.propagate import DenseCRF, label_share, retrieve
from spml.propagate.approximate import ApproximateMemory

PREDICTORS = {  # name: help
    "retrieval": "the nearest prototypes of a memory vote for each segment",
    "softmax": "the classifier",
}


class Predictor(Protocol):
    """Scores of the classes on the views of an image."""

    @property
    def plan(self) -> ViewPlan: ...

    def scores(self, views: Tensor) -> tuple[Tensor, Tensor | None]:
        """(B, 3, h, w) -> (B, K, h, w) scores as they are resized, and segments (h, w) of the first, if any."""

    def probability(self, scores: Tensor) -> Tensor:
        """(B, K, h, w) scores -> probabilities."""


@dataclass(frozen=True)
class SoftmaxPredictor:
    """The classifier on the full-resolution embedding of each crop; logits are averaged where crops overlap."""

    model: nn.Module
    classifier: nn.Module
    plan: ViewPlan
    device: torch.device

    @torch.no_grad()
    def scores(self, views: Tensor) -> tuple[Tensor, None]:
        inside = partial(self._classify, size=(views.shape[-2], views.shape[-1]))
        logits = slide(views, self.plan.crop_size, self.plan.stride, inside, self.device)
        return logits[..., : views.shape[-2], : views.shape[-1]], None

    def probability(self, scores: Tensor) -> Tensor:
        return scores.softmax(1)

    def _classify(self, crop: Tensor, size: tuple[int, int]) -> Tensor:
        """Logits of a crop of views of (h, w) = `size`. Of the padding they hold what a 3x3 convolution sees."""
        height, width = (min(side + 1, own) for side, own in zip(size, crop.shape[-2:], strict=True))
        return self.classifier(self.model(crop, crop.shape[-2:])[..., :height, :width])


@dataclass(frozen=True)
class RetrievalPredictor:
    """The share of each class among the `neighbours` prototypes of a memory (P, C) nearest to a segment's prototype.

    It compares all prototypes, or with `index` some. The class of the largest share (the smallest in a tie) is the
    majority label. The release takes 20 neighbours.
    """

    segmenter: Segmenter
    memory: Tensor
    memory_label: Tensor
    num_classes: int
    neighbours: int = 20
    index: ApproximateMemory | None = None

    @property
    def plan(self) -> ViewPlan:
        return self.segmenter.plan

    @torch.no_grad()
    def scores(self, views: Tensor) -> tuple[Tensor, Tensor]:
        """The share of each label among the nearest prototypes (B, K, h, w), and the first view's segments (h, w)."""
        index, prototype = self.segmenter(views, keep_padding=self.plan.single_scale)
        if self.index is None:
            label, _ = retrieve(prototype, self.memory, self.memory_label, self.neighbours)
        else:
            label, _ = self.index.retrieve(prototype, self.neighbours)
        share = label_share(label, self.num_classes)  # (S, K)
        return share.T[:, index].transpose(0, 1), index[0]

    def probability(self, scores: Tensor) -> Tensor:
        return scores


def load_models(
    config: Any, snapshot: str | Path, device: torch.device, with_classifier: bool, runtime: str = AUTO
) -> tuple[nn.Module, nn.Module | None]:
    """The networks of a config with the weights of a snapshot, by `for_inference`. Prints what was loaded."""
    check_runtime(runtime, device)
    model = build_embedding_model(config)
    classifier = build_classifier(config) if with_classifier else None
    say(load_checkpoint(snapshot, model, classifier))
    return networks_for_inference(model, classifier, device, runtime)


def build_predictor(
    config: Any,
    kind: str,
    snapshot: str | Path,
    plan: ViewPlan,
    device: torch.device,
    memory_dir: str | Path | None = None,
    approximate: bool = False,
    runtime: str = AUTO,
) -> Predictor:
    """The predictor `kind` out of PREDICTORS, with the weights of a snapshot.

    `memory_dir`: for retrieval. `approximate`: retrieve by an index, which is faster for memories of millions but
    misses some neighbours. `runtime`: out of RUNTIMES.

    It prints what it loaded, and a warning if the memory comes from full masks.

    Raises:
        UserError: a snapshot or memory that does not fit, or no memory.
    """
    if kind not in PREDICTORS:
        raise UserError(f"--predictor: expected one of {', '.join(PREDICTORS)}, got {kind!r}")
    if kind == "retrieval" and memory_dir is None:
        raise UserError("--predictor retrieval needs --semantic_memory_dir, a memory written by `spml memory`")
    model, classifier = load_models(config, snapshot, device, kind == "softmax", runtime)
    if classifier is not None:
        return SoftmaxPredictor(model, classifier, plan, device)
    assert memory_dir is not None
    segmenter = Segmenter.from_config(config, model, plan, device)
    check_memory(memory_dir, config, segmenter)
    memory, label = read_memory(memory_dir, int(config.dataset.num_classes), int(config.network.embedding_dim))
    predictor = retrieval_of(config, segmenter, memory, label, approximate, index_file(memory_dir))
    warning = f"; {FULL_MASKS}" if of_full_masks(memory_dir) else ""
    say(f"{memory_dir}: memory of {len(predictor.memory)} prototypes{warning}")
    return predictor


def retrieval_of(
    config: Any,
    segmenter: Segmenter,
    memory: Tensor,
    label: Tensor,
    approximate: bool = False,
    file: Path | None = None,
) -> RetrievalPredictor:
    """Retrieval from `test.memory_size` rows of a memory of prototypes (P, D) and labels (P,).

    `file`: where the index of the whole memory is kept. Of several processes one makes it, and all map it.
    """
    test = config.test
    file = None if 0 < int(test.memory_size) < len(memory) else file
    memory, label = draw(memory, label, int(test.memory_size), int(config.train.seed))
    memory, label = memory.to(segmenter.device), label.to(segmenter.device)
    index = None
    if approximate and file is not None and world_size() > 1:
        all_do(lambda: ApproximateMemory(memory, label, file=file).label.shape if rank() == 0 else None)
    if approximate:
        index = ApproximateMemory(memory, label, file=file)
    return RetrievalPredictor(*(segmenter, memory, label, int(config.dataset.num_classes), int(test.neighbours), index))


@torch.no_grad()
def predict_image(image: Tensor, predictor: Predictor) -> tuple[Tensor, Tensor | None]:
    """The class probabilities of one image, averaged over its views.

    With several scales, it resizes scores bilinearly to the image (logits before their softmax), as the release does.

    Args:
        image: (3, H, W), normalised.

    Returns:
        The probability (K, h, w) at predictor.plan.output_size((H, W)), and the segments (h', w') of the first view if
        the predictor has any.
    """
    plan = predictor.plan
    size = plan.output_size((image.shape[1], image.shape[2]))
    total: Tensor | None = None
    clusters: Tensor | None = None
    count = 0
    for views in plan.views(image):
        scores, index = predictor.scores(views)
        probability = unmirrored(predictor.probability(resize(scores, size)))  # (1 or 2, K, h, w)
        total = probability.sum(0) if total is None else total.add_(probability.sum(0))
        count += len(probability)
        clusters = index if clusters is None else clusters
    assert total is not None
    return total.div_(count), clusters


def predict_list(
    config: Any,
    samples: Sequence[Sample],
    predictor: Predictor,
    save_dir: str | Path,
    *,
    crf: DenseCRF | None = None,
    crf_workers: int = 0,
    overwrite: bool = False,
) -> str:
    """Predict each image of a list and write `semantic_gray`, `semantic_color` and, by retrieval, `semantic_cluster`.

    See `go_through` for what stops it, what is skipped and how several processes share the list.

    Args:
        samples: their labels are not read.
        crf, crf_workers, overwrite: as in `go_through`.

    Returns:
        One line saying what was done.
    """
    samples = only(samples)

    def work(read: EvaluationSample, refiner: Refining | None) -> str | None:
        probability, clusters = predict_image(read.image, predictor)
        size = read.pixels.shape[:2]
        if clusters is not None:
            write_clusters(save_dir, read.name, resize_label(clusters.cpu().numpy().astype(np.uint16), size))
        write_image(config, save_dir, read, probability, refiner)
        return "smaller" if predictor.plan.is_bounded(size) else None

    job = Job("predictions", {"predictor": predictor}, label_file, LABELS, work)
    done = go_through(config, samples, job, save_dir, crf=crf, crf_workers=crf_workers, overwrite=overwrite)
    smaller = done.words.get("smaller", 0)
    bounded = f" ({smaller} made smaller, to --max_pixels {predictor.plan.max_pixels})" if smaller else ""
    return done.line(f"images predicted{bounded}", save_dir)
