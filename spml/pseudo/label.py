"""Pseudo labels for training images: what a source knows, spread by a random walk, refined by a CRF.

| source    | as released in             | starts from                            | scales     | flip | walk | CRF |
|-----------|----------------------------|----------------------------------------|------------|------|------|-----|
| cam       | pseudo_camrw_crf           | CAMs and (1 - max)^6                   | 1          | yes  | yes  | yes |
| softmax   | pseudo_softmaxrw_crf       | classifier, probabilities averaged     | 1          | yes  | yes  | yes |
| softmax   | pseudo_softmax             | classifier, logits averaged            | .75 1      | yes  | 1    | no  |
| retrieval | pseudo_inference_crf_msc   | shares among test.neighbours (20)      | .5 1 1.5 2 | yes  | no   | yes |
| points    | pseudo_denseposerw_crf     | nearest labelled segments              | 1          | no   | yes  | yes |
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from spml.data.annotate_list import label_rows
from spml.data.dataset import EvaluationSample, read_sample
from spml.data.lists import IGNORE, UNLABELLED, Sample, check_samples, check_unique_names, write_list
from spml.errors import UserError
from spml.inference.made_by import start_record
from spml.inference.outputs import GREY, InlineRefiner, Refiner, is_written, open_refiner, write_labels
from spml.inference.predictors import RetrievalPredictor, build_predictor, load_models
from spml.inference.read_ahead import read_ahead
from spml.inference.views import ViewPlan, resize_image, resize_label, to_pixels
from spml.inference.whole_views import WholeViews, resize
from spml.propagate import DenseCRF, random_walk
from spml.pseudo.sources import CamSource, PointSource, RetrievalSource, SoftmaxSource, Source

SOURCES = ("cam", "softmax", "retrieval", "points")
LIST = "list.txt"
WALK_STEPS = 64  # the release squares the step matrix six times


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


RELEASED = {
    "cam": Recipe((1.0,), True, WALK_STEPS, True),
    "softmax": Recipe((1.0,), True, WALK_STEPS, True),
    "retrieval": Recipe((0.5, 1.0, 1.5, 2.0), True, 0, True),
    "points": Recipe((1.0,), False, WALK_STEPS, True),
}
SOFTMAX_OF_ONE_STEP = Recipe((0.75, 1.0), True, 1, False)


def choose_recipe(
    source: str,
    scales: Sequence[float] | None = None,
    flip: bool | None = None,
    walk_steps: int | None = None,
    crf: bool | None = None,
) -> Recipe:
    """The released recipe of a source, with what the user chose (what is not None) in its place.

    `softmax` with walk_steps 1 is another procedure of the release, with defaults of its own: its step matrix is never
    squared, and so walks one step. With walk_steps 0 the defaults are the same, and there is no step.

    Raises:
        UserError: an unknown source, or walk_steps below 0.
    """
    if source not in RELEASED:
        raise UserError(f"--source: expected one of {', '.join(SOURCES)}, got {source!r}")
    if walk_steps is not None and walk_steps < 0:
        raise UserError(f"--walk_steps: expected a whole number >= 0 (0: no walk), got {walk_steps}")
    short = source == "softmax" and walk_steps is not None and walk_steps <= 1
    recipe = SOFTMAX_OF_ONE_STEP if short else RELEASED[source]
    return Recipe(
        scales=recipe.scales if scales is None else tuple(float(scale) for scale in scales),
        flip=recipe.flip if flip is None else flip,
        walk_steps=recipe.walk_steps if walk_steps is None else walk_steps,
        crf=recipe.crf if crf is None else crf,
    )


def build_source(
    config: Any,
    kind: str,
    snapshot: str | Path,
    plan: ViewPlan,
    device: torch.device,
    samples: Sequence[Sample],
    *,
    walk_steps: int,
    cam_dir: str | Path | None = None,
    memory_dir: str | Path | None = None,
) -> Source:
    """The source called `kind`, `cam`, `softmax`, `retrieval` or `points`, with the weights of a snapshot.

    Args:
        plan: image_size 0, as no procedure resizes the image. The walk of max_pixels takes (max_pixels / 64)^2 floats,
            twice with several views.
        samples: of which every one needs a CAM file, if `kind` is `cam`.
        walk_steps: 0: no walk, so that no embeddings are needed for one.

    Raises:
        UserError: what `kind` needs is not there or does not fit.
    """
    num_classes, grid = int(config.dataset.num_classes), config.network.kmeans_num_clusters
    if kind == "cam":
        folder = _check_cams(cam_dir, samples)
        if not walk_steps:
            return CamSource(None, plan, num_classes, folder)
        model, _ = load_models(config, snapshot, device, with_classifier=False)
        return CamSource(WholeViews(model, plan, device), plan, num_classes, folder)
    if kind == "retrieval":
        if memory_dir is None:
            raise UserError("--source retrieval needs --semantic_memory_dir, a memory written by prototype.py")
        predictor = build_predictor(config, kind, snapshot, plan, device, memory_dir)
        assert isinstance(predictor, RetrievalPredictor)
        return RetrievalSource(predictor, WholeViews(predictor.segmenter.model, plan, device) if walk_steps else None)
    model, classifier = load_models(config, snapshot, device, with_classifier=kind == "softmax")
    views = WholeViews(model, plan, device)
    if classifier is not None:
        return SoftmaxSource(views, classifier, num_classes, walk_steps)
    return PointSource(views, (int(grid[0]), int(grid[1])), int(config.network.kmeans_iterations), num_classes)


def _check_cams(cam_dir: str | Path | None, samples: Sequence[Sample]) -> Path:
    if cam_dir is None:
        raise UserError("--source cam needs --cam_dir, a folder of CAM files <name>.npy")
    cam_dir = Path(cam_dir)
    missing = [sample for sample in samples if not (cam_dir / f"{sample.name}.npy").is_file()]
    if missing:
        first = missing[0]
        raise UserError(
            f"{first.where}: no CAM file {cam_dir / first.name}.npy "
            f"({len(missing)} of the {len(samples)} images of the list have none)"
        )
    return cam_dir


def pseudo_probability(source: Source, read: EvaluationSample, walk_steps: int) -> Tensor | None:
    """The scores of the classes, (K, h, w) at the size of the source's plan; None where nothing is known."""
    evidence = source(read)
    if evidence is None:
        return None
    score = evidence.score
    if walk_steps and evidence.embedding is not None:
        score = resize(score[None], (evidence.embedding.shape[-2], evidence.embedding.shape[-1]))[0]
        score = random_walk(evidence.embedding, score, steps=walk_steps)
    return resize(score[None], source.plan.output_size((read.image.shape[1], read.image.shape[2])))[0]


def label_list(
    config: Any,
    samples: Sequence[Sample],
    source: Source,
    save_dir: str | Path,
    *,
    walk_steps: int = 0,
    crf: DenseCRF | None = None,
    crf_workers: int = 0,
    overwrite: bool = False,
) -> str:
    """Write `semantic_gray` and `semantic_color` of each image and, last, `list.txt` for the next stage.

    Its lines are `image pseudo_label [over-segmentation]`, relative to dataset.data_dir, with the third column of the
    input list. Images that have their label already are skipped unless `overwrite`, so an interrupted run continues;
    one of other weights, options or list is refused (see `start_record`).
    An image of which nothing is known, as none of its pixels has a class, is unlabelled (254) everywhere; the release
    made it background.

    Args:
        samples: with the weak labels, unless the source needs none.
        walk_steps: of the random walk; 0: none.
        crf: refines the scores, in `crf_workers` processes beside the network (0: one fewer than the cores), or in
            this one if it computes on a GPU.

    Returns:
        One line saying what was done.

    Raises:
        UserError: files that are missing or cannot be read, or paths that a list cannot hold.
    """
    start, save_dir = time.time(), Path(save_dir)
    rows = label_rows(samples, save_dir / GREY, config.dataset.data_dir)  # checked before any work
    check_unique_names(samples)
    if not source.needs_label:
        samples = [replace(sample, label=None, regions=None) for sample in samples]
    check_samples(samples, int(config.dataset.num_classes), unlabelled_index=config.dataset.unlabelled_index)
    network, data = config.network, config.dataset
    made_by = {
        **{"source": source, "walk_steps": walk_steps, "crf": crf, "means": network.pixel_means},
        "list": Path(samples[0].list_path or "").resolve() if samples else None,
        "unlabelled_index": data.unlabelled_index,
    }
    start_record(save_dir, made_by, overwrite)
    pending = [sample for sample in samples if overwrite or not is_written(save_dir, sample.name)]
    unknown, statistics = 0, {"pixel_means": network.pixel_means, "pixel_stds": network.pixel_stds}
    images = read_ahead(pending, partial(read_sample, **statistics, unlabelled_index=data.unlabelled_index))
    with open_refiner(crf, crf_workers) as refiner:
        for sample, read in tqdm(images, desc="pseudo labels", unit="image", total=len(pending)):
            if source.needs_label and read.semantic is None:
                raise UserError(f"{sample.where}: no semantic label: this source needs `image semantic` on each line")
            probability = pseudo_probability(source, read, walk_steps)
            unknown += probability is None
            _write(config, read, probability, save_dir, source.keeps_void, refiner)
    write_list(save_dir / LIST, rows)
    left_out = f"; {unknown} without a pixel of any class are unlabelled" if unknown else ""
    done = f"{len(pending)} images labelled{left_out}, {len(samples) - len(pending)} were there already"
    return f"{done}: {save_dir / LIST}, {time.time() - start:.1f} s"


def _write(
    config: Any,
    read: EvaluationSample,
    probability: Tensor | None,
    save_dir: Path,
    keeps_void: bool,
    refiner: Refiner | InlineRefiner | None,
) -> None:
    """The label of one image, at its own size."""
    size = (read.image.shape[1], read.image.shape[2])
    void = (read.semantic == IGNORE).numpy() if keeps_void and read.semantic is not None else None
    if probability is None or refiner is None:
        label = np.full(size, UNLABELLED, np.uint8)
        if probability is not None:
            label = resize_label(probability.cpu().numpy().argmax(0).astype(np.uint8), size)
        write_labels(save_dir, read.name, label if void is None else np.where(void, np.uint8(IGNORE), label))
        return
    working = (probability.shape[1], probability.shape[2])
    pixels = to_pixels(resize_image(read.image, working), config.network.pixel_means, config.network.pixel_stds)
    refiner.submit(save_dir, read.name, pixels, probability.float(), size, void)
