"""The one loop over a list of images: predictions, memories, CAMs and pseudo labels are made by it.

It checks names and files, starts the record, skips what is written, reads ahead, calls the work on each image, hands
out the processes of a CRF, shows how far it is, and completes the record. Under torchrun each process takes its share
of the images; one process does what concerns them all. A run that was ended at any moment goes on where it was.
"""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from spml import records
from spml.data.dataset import EvaluationSample, read_sample
from spml.data.lists import check_samples, check_unique_names
from spml.data.samples import Sample
from spml.files import remove_stale
from spml.inference.outputs import Refining, open_refiner
from spml.inference.read_ahead import read_ahead
from spml.processes import barrier, gather, rank, world_size
from spml.progress import progress
from spml.propagate import DenseCRF


@dataclass(frozen=True)
class Job:
    """What is done with each image of a list.

    Args:
        kind: of the files that it makes, in the plural, as the record has it: "pseudo labels".
        things: what they follow from, beside the images and the settings that every job has; see `records.record_of`.
        target: name of an image to the file that is written last of it, such as `semantic_gray/x.png`. The record
            lies beside these files.
        made: patterns of the files that it makes, from the folder of the record on.
        work: does an image and writes its files. A word that it returns is counted in `Done.words`.
        check: more checks, before any work.
        contents: hashes of what else goes in, such as a folder of CAMs.
        finish: called at the end by one process, when all images are done; returns notes for the record.
    """

    kind: str
    things: Mapping[str, Any]
    target: Callable[[str], str]
    made: tuple[str, ...]
    work: Callable[[EvaluationSample, Refining | None], str | None]
    check: Callable[[], object] = lambda: None
    contents: Callable[[], Mapping[str, str]] = dict
    finish: Callable[["Done"], Mapping[str, Any]] = lambda done: {}
    older: str = "made_by.json"  # what earlier versions wrote in place of the record

    def home(self, folder: Path) -> Path:
        """Where the record lies."""
        return (folder / self.target("x")).parent


@dataclass(frozen=True)
class Done:
    """What a loop did, over all processes."""

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
    """Do a job for each sample whose file is not there, and complete the record of the folder.

    Args:
        samples: with the labels and regions that the job reads, and no others.
        crf: refines, in `crf_workers` processes beside the network (0: one fewer than the cores), or in this one if it
            computes on a GPU.
        overwrite: make all again; without it, what other weights, settings or images made is refused.

    Raises:
        UserError: samples that cannot be used; a folder that something else filled; what the job raises.
        SystemExit: another process of torchrun ended with an error, which it says.
    """
    begin, folder = time.monotonic(), Path(save_dir)
    if rank() == 0:
        _start(config, samples, job, folder, crf, overwrite)
    barrier()
    pending = [one for one in samples[rank() :: world_size()] if not (folder / job.target(one.name)).is_file()]
    network, words = config.network, Counter[str]()
    read = partial(
        read_sample,
        pixel_means=network.pixel_means,
        pixel_stds=network.pixel_stds,
        unlabelled_index=config.dataset.unlabelled_index,
    )
    with open_refiner(crf, crf_workers) as refiner:
        images = progress(read_ahead(pending, read), job.kind, len(pending), quiet=rank() > 0)
        for _, one in images:
            if word := job.work(one, refiner):
                words[word] += 1
    shares = gather((len(pending), words))
    new, total = sum(count for count, _ in shares), sum((own for _, own in shares), Counter[str]())
    done = Done(len(samples), new, time.monotonic() - begin, total)
    if rank() == 0:
        records.finish(job.home(folder), images=len(samples), **job.finish(done))
        remove_stale(folder)
    barrier()
    return done


def _start(
    config: Any, samples: Sequence[Sample], job: Job, folder: Path, crf: DenseCRF | None, overwrite: bool
) -> None:
    """Check everything, then write the record, and remove what is to be made again."""
    data = config.dataset
    check_unique_names(samples)
    job.check()
    check_samples(samples, int(data.num_classes), unlabelled_index=data.unlabelled_index)
    things = {**job.things, "crf": crf, **image_settings(config)}
    if any(sample.label is not None for sample in samples):
        things["unlabelled_index"] = data.unlabelled_index
    contents = {"list": hash_samples(samples), **job.contents()}
    record = records.record_of(job.kind, things, contents, list=list_of(samples))
    remove_stale(folder)
    home, older = job.home(folder), folder / job.older
    complete = records.start(home, record, made=job.made, overwrite=overwrite, older=older)
    targets = [folder / job.target(sample.name) for sample in samples]
    for path in targets if overwrite else ():
        path.unlink(missing_ok=True)
    if complete and not all(path.is_file() for path in targets):
        records.reopen(home)


def image_settings(config: Any) -> dict[str, Any]:
    """The settings that count in every record of this package: how images and classes are read."""
    network = config.network
    means, stds = [float(value) for value in network.pixel_means], [float(value) for value in network.pixel_stds]
    return {"num_classes": int(config.dataset.num_classes), "pixel_means": means, "pixel_stds": stds}


def hash_samples(samples: Sequence[Sample]) -> str:
    """A hash of the names of samples and of the contents of their images, labels and regions; in any order."""
    ordered = sorted(samples, key=lambda sample: sample.name)
    names = records.describe([sample.name for sample in ordered])
    parts = [part for one in ordered for part in (one.image, one.label, one.regions) if part is not None]
    return records.hash_json([names, records.hash_files(parts)])


def list_of(samples: Sequence[Sample]) -> str | None:
    """The file that samples were read from, if they were."""
    path = samples[0].list_path if samples else None
    return None if path is None else str(path.resolve())
