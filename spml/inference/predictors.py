"""Label images from a trained embedding, by retrieval from a memory or by the softmax classifier."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from spml.allocator import keep_memory
from spml.data.dataset import EvaluationSample, read_sample
from spml.data.lists import Sample, check_samples, check_unique_names
from spml.errors import UserError
from spml.inference.made_by import mark, start_record
from spml.inference.memory import FULL_MASKS, read_memory, read_record
from spml.inference.outputs import InlineRefiner, Refiner, is_written, open_refiner, write_clusters, write_labels
from spml.inference.read_ahead import read_ahead
from spml.inference.segmenter import Segmenter
from spml.inference.views import ViewPlan, resize_image, resize_label, slide, to_pixels
from spml.models import build_classifier, build_embedding_model, load_checkpoint
from spml.propagate import DenseCRF, label_share, retrieve
from spml.propagate.approximate import ApproximateMemory


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
        logits = slide(views, self.plan.crop_size, self.plan.stride, self._classify, self.device)
        return logits[..., : views.shape[-2], : views.shape[-1]], None

    def probability(self, scores: Tensor) -> Tensor:
        return scores.softmax(1)

    def _classify(self, crop: Tensor) -> Tensor:
        return self.classifier(self.model(crop, crop.shape[-2:]))


@dataclass(frozen=True)
class RetrievalPredictor:
    """The share of each class among the `neighbours` prototypes of a memory (P, C) that are nearest to a segment's: all
    are compared, or by `index` some.

    The largest share, the smallest class of equal ones, is their majority label. The release takes 20.
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
    config: Any, snapshot: str | Path, device: torch.device, with_classifier: bool
) -> tuple[nn.Module, nn.Module | None]:
    """The networks of a config with the weights of a snapshot, in eval mode on `device`.

    On the CPU their maps have the channels side by side in memory, where convolutions and all that follows are faster.
    """
    model = build_embedding_model(config)
    classifier = build_classifier(config) if with_classifier else None
    print(load_checkpoint(snapshot, model, classifier))
    mark(model, snapshot)
    for network in (model, classifier):
        if network is not None:
            network.eval().to(device)
            if device.type == "cpu":
                network.to(memory_format=torch.channels_last)
    if device.type == "cpu":
        keep_memory()
    return model, classifier


def build_predictor(
    config: Any,
    kind: str,
    snapshot: str | Path,
    plan: ViewPlan,
    device: torch.device,
    memory_dir: str | Path | None = None,
    approximate: bool = False,
) -> Predictor:
    """The predictor `retrieval`, which needs a memory, or `softmax`, with the weights of a snapshot.

    `approximate`: retrieval by an index, faster from memories of millions, which misses some neighbours.

    Prints what was loaded, and again that a memory came from full masks.

    Raises:
        UserError: a snapshot or memory that does not fit, or no memory.
    """
    if kind == "retrieval" and memory_dir is None:
        raise UserError("--predictor retrieval needs --semantic_memory_dir, a memory written by prototype.py")
    model, classifier = load_models(config, snapshot, device, with_classifier=kind == "softmax")
    if classifier is not None:
        return SoftmaxPredictor(model, classifier, plan, device)
    assert memory_dir is not None
    num_classes, test = int(config.dataset.num_classes), config.test
    memory, label = read_memory(
        memory_dir, num_classes, int(config.network.embedding_dim), int(test.memory_size), int(config.train.seed)
    )
    record = read_record(memory_dir) or {}
    print(f"{memory_dir}: memory of {len(memory)} prototypes" + (f"; {FULL_MASKS}" if record.get("full_masks") else ""))
    segmenter = Segmenter.from_config(config, model, plan, device)
    memory, label = memory.to(device), label.to(device)
    index = ApproximateMemory(memory, label) if approximate else None
    return RetrievalPredictor(segmenter, memory, label, num_classes, int(test.neighbours), index)


@torch.no_grad()
def predict_image(image: Tensor, predictor: Predictor) -> tuple[Tensor, Tensor | None]:
    """The class probabilities of one image, averaged over its views.

    With several scales, scores are resized bilinearly to the image (logits before their softmax), as released.

    Args:
        image: (3, H, W), normalised.

    Returns:
        probability (K, h, w) at predictor.plan.output_size((H, W)), and the segments (h', w') of the first view, if the
        predictor makes any.
    """
    plan = predictor.plan
    size = plan.output_size((image.shape[1], image.shape[2]))
    total: Tensor | None = None
    clusters: Tensor | None = None
    count = 0
    for views in plan.views(image):
        scores, index = predictor.scores(views)
        if scores.shape[-2:] != size:
            scores = F.interpolate(scores, size, mode="bilinear", align_corners=False)
        probability = predictor.probability(scores)  # (B, K, h, w)
        if len(probability) == 2:
            probability = torch.stack([probability[0], probability[1].flip(-1)])
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

    Images that have their label already are skipped unless `overwrite`, so an interrupted run continues; one of other
    weights or options is refused (see `start_record`).

    Args:
        samples: their labels are not read.
        crf: refines the probabilities, in `crf_workers` processes beside the network (0: one fewer than the cores), or
            in this one if it computes on a GPU.

    Returns:
        One line saying what was done.
    """
    start = time.time()
    check_unique_names(samples)
    samples = [replace(sample, label=None, regions=None) for sample in samples]
    check_samples(samples, int(config.dataset.num_classes))
    made_by = {"predictor": predictor, "crf": crf, "means": config.network.pixel_means}
    start_record(save_dir, made_by, overwrite)
    pending = [sample for sample in samples if overwrite or not is_written(save_dir, sample.name)]
    bounded = 0
    statistics = {"pixel_means": config.network.pixel_means, "pixel_stds": config.network.pixel_stds}
    images = read_ahead(pending, partial(read_sample, **statistics))
    with open_refiner(crf, crf_workers) as refiner:
        for _, read in tqdm(images, desc="inference", unit="image", total=len(pending)):
            bounded += predictor.plan.is_bounded((read.image.shape[1], read.image.shape[2]))
            probability, clusters = predict_image(read.image, predictor)
            _write(config, read, probability, clusters, save_dir, refiner)
    seconds = time.time() - start
    each = f", {seconds / len(pending):.2f} s an image" if pending else ""
    smaller = f" ({bounded} made smaller, to --max_pixels {predictor.plan.max_pixels})" if bounded else ""
    done = f"{len(pending)} images predicted{smaller}, {len(samples) - len(pending)} were there already"
    return f"{done}: {save_dir}, {seconds:.1f} s{each}"


def _write(
    config: Any,
    read: EvaluationSample,
    probability: Tensor,
    clusters: Tensor | None,
    save_dir: str | Path,
    refiner: Refiner | InlineRefiner | None,
) -> None:
    """Everything of one image, at its own size."""
    size, working = read.pixels.shape[:2], (probability.shape[1], probability.shape[2])
    if clusters is not None:
        write_clusters(save_dir, read.name, resize_label(clusters.cpu().numpy().astype(np.uint16), size))
    if refiner is None:
        label = probability.argmax(0).cpu().numpy().astype(np.uint8)
        write_labels(save_dir, read.name, resize_label(label, size))
        return
    network = config.network
    pixels = to_pixels(resize_image(read.image, working), network.pixel_means, network.pixel_stds)
    refiner.submit(save_dir, read.name, pixels, probability.float(), size)
