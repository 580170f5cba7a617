"""Pseudo labels of a data list by one of the sources."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spml.data.annotate_list import label_rows
from spml.data.dataset import EvaluationSample
from spml.data.listed import only, places_with
from spml.data.lists import write_list
from spml.data.samples import IGNORE, UNLABELLED, Sample
from spml.errors import UserError
from spml.inference.loop import Done, Job, go_through
from spml.inference.outputs import GREY, LABELS, Refining, label_file, with_void, write_image, write_labels
from spml.inference.runtimes import AUTO
from spml.inference.views import ViewPlan
from spml.models.layers import resize
from spml.propagate import DenseCRF, random_walk
from spml.pseudo import SOURCES
from spml.pseudo.base import Labeller, Materials, Recipe, Source

LIST = "list.txt"


def source_named(name: str) -> Source:
    """The entry of the table. Raises UserError, which lists the known ones."""
    if name not in SOURCES:
        raise UserError(f"--source: expected one of {', '.join(SOURCES)}, got {name!r}")
    return SOURCES[name]


def choose_recipe(
    source: str,
    scales: Sequence[float] | None = None,
    flip: bool | None = None,
    walk_steps: int | None = None,
    crf: bool | None = None,
) -> Recipe:
    """The released recipe of a source, except for the settings that the caller gives (those that are not None).

    `softmax` with walk_steps 1 is another procedure of the release, with its own defaults: it does not square its step
    matrix, so it walks one step. With walk_steps 0 these defaults apply, too, without a walk.

    Raises:
        UserError: an unknown source, a setting without effect on it, or walk_steps below 0.
    """
    entry = source_named(source)
    for name, given in {"scales": scales, "flip": flip, "walk_steps": walk_steps}.items():
        if given is not None and name in entry.ignores:
            raise _ignored(name, source)
    if walk_steps is not None and walk_steps < 0:
        raise UserError(f"--walk_steps: expected a whole number >= 0 (0: no walk), got {walk_steps}")
    short = entry.short if walk_steps is not None and walk_steps <= 1 else None
    recipe = short or entry.recipe
    return Recipe(
        scales=recipe.scales if scales is None else tuple(float(scale) for scale in scales),
        flip=recipe.flip if flip is None else flip,
        walk_steps=recipe.walk_steps if walk_steps is None else walk_steps,
        crf=recipe.crf if crf is None else crf,
    )


def _ignored(option: str, source: str) -> UserError:
    return UserError(f"--{option} has no effect on --source {source}: expected none")


def build_source(
    config: Any,
    kind: str,
    snapshot: str | Path | None,
    plan: ViewPlan,
    device: torch.device,
    samples: Sequence[Sample],
    *,
    walk_steps: int,
    cam_dir: str | Path | None = None,
    memory_dir: str | Path | None = None,
    runtime: str = AUTO,
) -> Labeller:
    """The source called `kind`, with the weights of a snapshot; see `Materials` for the arguments.

    The walk of an image of plan.max_pixels takes (max_pixels / 64)^2 floats, and twice as many with several views.

    Raises:
        UserError: something that the source needs is missing or does not fit, or something is given that it ignores.
    """
    source = source_named(kind)
    if snapshot is None and "snapshot" in source.needs:
        raise UserError(f"--source {kind} needs --snapshot_dir, the network that it asks")
    for option, need, folder in (("cam_dir", "cam_dir", cam_dir), ("semantic_memory_dir", "memory_dir", memory_dir)):
        if folder is not None and need not in source.needs:
            raise _ignored(option, kind)
    if runtime != AUTO and "runtime" in source.ignores:
        raise _ignored("runtime", kind)
    found, cams, memory = (None if path is None else Path(path) for path in (snapshot, cam_dir, memory_dir))
    return source.build(Materials(config, found, plan, device, samples, walk_steps, cams, memory, runtime))


def pseudo_probability(labeller: Labeller, read: EvaluationSample, walk_steps: int) -> Tensor | None:
    """The scores of the classes, (K, h, w) at the size of the source's plan; None if the source gives none."""
    evidence = labeller(read)
    if evidence is None:
        return None
    score = evidence.score
    if walk_steps and evidence.embedding is not None:
        score = resize(score[None], (evidence.embedding.shape[-2], evidence.embedding.shape[-1]))[0]
        score = random_walk(evidence.embedding, score, steps=walk_steps)
    return resize(score[None], labeller.plan.output_size((read.image.shape[1], read.image.shape[2])))[0]


def label_list(
    config: Any,
    samples: Sequence[Sample],
    labeller: Labeller,
    save_dir: str | Path,
    *,
    walk_steps: int = 0,
    crf: DenseCRF | None = None,
    crf_workers: int = 0,
    overwrite: bool = False,
) -> str:
    """Write `semantic_gray` and `semantic_color` of each image and, last, `list.txt` for the next stage.

    Its lines are `image pseudo_label [over-segmentation]`, relative to dataset.data_dir, with the third column of the
    input list. See `go_through` for what stops it, what is skipped and how several processes share the list.
    An image without a pixel of any class becomes unlabelled (254) everywhere; the release makes it background.

    Args:
        samples: with weak labels, unless the source needs none.
        walk_steps: of the random walk; 0: none.
        crf, crf_workers, overwrite: as in `go_through`.

    Returns:
        One line saying what was done.

    Raises:
        UserError: files that are missing or cannot be read, or paths that a list cannot hold.
    """
    save_dir, given = Path(save_dir), samples

    def check() -> list[list[str]]:
        return label_rows(given, save_dir / GREY, config.dataset.data_dir)

    def work(read: EvaluationSample, refiner: Refining | None) -> str | None:
        probability = pseudo_probability(labeller, read, walk_steps)
        void = (read.semantic == IGNORE).numpy() if labeller.keeps_void and read.semantic is not None else None
        if probability is None:
            nothing = np.full(read.pixels.shape[:2], UNLABELLED, np.uint8)
            write_labels(save_dir, read.name, with_void(nothing, void), config.dataset.background)
            return "unknown"
        write_image(config, save_dir, read, probability, refiner, void)
        return None

    def finish(done: Done) -> Mapping[str, Any]:
        write_list(save_dir / LIST, check())
        return {}

    things = {"source": labeller, "walk_steps": walk_steps}
    samples = _as_read(samples, labeller)
    job = Job(
        *("pseudo labels", things, label_file, LABELS, work),
        check=check,
        contents=lambda: labeller.contents(samples),
        finish=finish,
    )
    done = go_through(config, samples, job, save_dir, crf=crf, crf_workers=crf_workers, overwrite=overwrite)
    unknown = done.words.get("unknown", 0)
    told = f"images labelled; {unknown} without a pixel of any class are unlabelled" if unknown else "images labelled"
    return done.line(told, save_dir / LIST)


def _as_read(samples: Sequence[Sample], labeller: Labeller) -> Sequence[Sample]:
    """The samples with only the parts that the source reads."""
    if not labeller.reads_label:
        return only(samples)
    without = set(range(len(samples))).difference(places_with(samples, "label"))
    if without:
        where = samples[min(without)].where
        raise UserError(f"{where}: no semantic label: this source needs `image semantic` on each line")
    return only(samples, "label", "regions") if labeller.reads_regions else only(samples, "label")
