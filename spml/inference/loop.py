"""The one loop over a list of images, which makes predictions, memories, CAMs and pseudo labels.

It checks names and files, starts the record, skips finished images, reads ahead, calls the work on each image, provides
the processes of a CRF, reports progress, and completes the record. Under torchrun each process takes its share of the
images (see `shares`), and one process does what concerns them all. A run that was interrupted at any moment, on any of
its machines, can continue, also with another number of processes.
"""

import contextlib
import os
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from spml import records
from spml.data.dataset import EvaluationSample, read_sample
from spml.data.listed import names_of, places_with, take
from spml.data.lists import check_unique_names, check_values
from spml.data.samples import Sample
from spml.files import remove_stale
from spml.inference.outputs import Refining, open_refiner
from spml.inference.read_ahead import read_ahead
from spml.inference.shares import hash_list, owners
from spml.ledger import FOLDER as INPUTS
from spml.ledger import Ledger
from spml.processes import all_do, barrier, gather, rank
from spml.progress import progress
from spml.propagate import DenseCRF


@dataclass(frozen=True)
class Job:
    """The work on each image of a list.

    Args:
        kind: the plural name of its files in the record, such as "pseudo labels".
        things: what the result depends on, beside the images and the settings of every job; see `records.record_of`.
        target: maps the name of an image to the file that is written last, such as `semantic_gray/x.png`. The record
            lies beside these files.
        made: patterns of the files that it makes, relative to the folder of the record.
        work: handles an image and writes its files. `Done.words` counts the words that it returns, or adds counts.
        check: more checks, before any work.
        contents: hashes of other inputs, such as a folder of CAMs. All processes call it, the first needs the result.
        tally: counts for `Done.words` of images that were done before, by their names; each process its own ones.
        finish: one process calls it when all images are done; it returns notes for the record.
    """

    kind: str
    things: Mapping[str, Any]
    target: Callable[[str], str]
    made: tuple[str, ...]
    work: Callable[[EvaluationSample, Refining | None], str | Mapping[str, int] | None]
    check: Callable[[], object] = lambda: None
    contents: Callable[[], Mapping[str, str]] = dict
    tally: Callable[[Sequence[str]], Mapping[str, int]] = lambda names: {}
    finish: Callable[["Done"], Mapping[str, Any]] = lambda done: {}
    older: str = "made_by.json"  # what earlier versions wrote in place of the record

    def home(self, folder: Path) -> Path:
        """Where the record lies."""
        return (folder / self.target("x")).parent


@dataclass(frozen=True)
class Done:
    """The counts of a finished loop, over all processes."""

    images: int
    new: int  # images that were not written before
    seconds: float
    words: Mapping[str, int] = field(default_factory=dict)  # how often the work returned each

    def line(self, what: str, where: object) -> str:
        """`3 images predicted, 1 were there already: out, 2.0 s, 0.50 s an image`."""
        each = f", {self.seconds / self.new:.2f} s an image" if self.new else ""
        return f"{self.new} {what}, {self.images - self.new} were there already: {where}, {self.seconds:.1f} s{each}"


def go_through(
    config: Any,
    samples: Sequence[Sample],
    job: Job,
    save_dir: str | Path,
    *,
    crf: DenseCRF | None = None,
    crf_workers: int = 0,
    overwrite: bool = False,
) -> Done:
    """Do a job for each sample whose file does not exist, and complete the record of the folder.

    Args:
        samples: with the labels and regions that the job reads, and no others.
        crf: refines, in `crf_workers` processes beside the network (0: one fewer than the cores), or in this process if
            it computes on a GPU.
        overwrite: make all files again; without it, files of other weights, settings or images are an error.

    Raises:
        UserError: unusable samples; a folder with files of something else; errors of the job.
        SystemExit: another process of torchrun ended with an error, which that process prints.
    """
    begin, folder = time.monotonic(), Path(save_dir)
    home = job.home(folder)
    owner, contents = _check(config, samples, job, home)
    all_do(lambda: _start(config, samples, job, folder, crf, overwrite, contents) if rank() == 0 else None)
    own = take(samples, np.flatnonzero(owner == rank()))
    pending = _pending(own, job, folder, overwrite)
    if sum(gather(len(pending))) and rank() == 0:
        records.reopen(home)
    barrier()
    words = Counter(job.tally([own[place].name for place in _others(len(own), pending)]))
    words += _work(config, take(own, pending), job, crf, crf_workers)
    shares = gather((len(pending), words))
    new, total = sum(count for count, _ in shares), sum((found for _, found in shares), Counter[str]())
    done = Done(len(samples), new, time.monotonic() - begin, total)
    if rank() == 0:
        records.finish(home, images=len(samples), **job.finish(done))
        remove_stale(folder)
    barrier()
    return done


def _check(config: Any, samples: Sequence[Sample], job: Job, home: Path) -> tuple[np.ndarray, dict[str, str]]:
    """Check everything, each process its share of the files. Returns each image's process, and hashes of contents."""

    def first() -> None:
        if rank() == 0:
            check_unique_names(samples)
            job.check()

    def values() -> None:
        if rank() == 0:
            data = config.dataset
            check_values(samples, int(data.num_classes), unlabelled_index=data.unlabelled_index)

    all_do(first)
    found = {"list": hash_list(samples, Ledger(home / INPUTS))}
    all_do(values)
    return owners(samples), {**found, **job.contents()}


def _start(
    config: Any,
    samples: Sequence[Sample],
    job: Job,
    folder: Path,
    crf: DenseCRF | None,
    overwrite: bool,
    contents: Mapping[str, str],
) -> None:
    """Write the record, or compare it with the one that is there."""
    data = config.dataset
    things = {**job.things, "crf": crf, **image_settings(config)}
    if places_with(samples, "label"):
        things["unlabelled_index"] = data.unlabelled_index
    record = records.record_of(job.kind, things, contents, list=list_of(samples))
    remove_stale(folder)
    home = job.home(folder)
    records.start(home, record, made=job.made, overwrite=overwrite, older=folder / job.older)
    if overwrite:  # before a file is removed
        records.reopen(home)


def _pending(own: Sequence[Sample], job: Job, folder: Path, overwrite: bool) -> list[int]:
    """The places of the images whose file is not there. With `overwrite` it removes those that are."""
    targets = ((place, f"{folder}/{job.target(name)}") for place, name in enumerate(names_of(own)))
    if not overwrite:
        return [place for place, path in targets if not os.path.isfile(path)]
    for _, path in targets:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
    return list(range(len(own)))


def _others(count: int, places: Sequence[int]) -> np.ndarray:
    """The places below `count` that are not in `places`."""
    left = np.ones(count, bool)
    left[places] = False
    return np.flatnonzero(left)


def _work(config: Any, samples: Sequence[Sample], job: Job, crf: DenseCRF | None, crf_workers: int) -> Counter[str]:
    """Do the job for these images, and count the words that it returns."""
    network, words = config.network, Counter[str]()
    read = partial(
        read_sample,
        pixel_means=network.pixel_means,
        pixel_stds=network.pixel_stds,
        unlabelled_index=config.dataset.unlabelled_index,
    )
    with open_refiner(crf, crf_workers) as refiner:
        images = progress(read_ahead(samples, read), job.kind, len(samples), quiet=rank() > 0)
        for _, one in images:
            if word := job.work(one, refiner):
                words.update(word if isinstance(word, Mapping) else (word,))
    return words


def image_settings(config: Any) -> dict[str, Any]:
    """The settings in every record of this package: how to read images and classes."""
    network = config.network
    means, stds = [float(value) for value in network.pixel_means], [float(value) for value in network.pixel_stds]
    return {"num_classes": int(config.dataset.num_classes), "pixel_means": means, "pixel_stds": stds}


def list_of(samples: Sequence[Sample]) -> str | None:
    """The file that samples were read from, if they were."""
    path = samples[0].list_path if samples else None
    return None if path is None else str(path.resolve())
