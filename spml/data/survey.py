"""Describes a training list on one page, with its likely mistakes. Training prints the page first, and keeps it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from spml.data.findings import Finding, find
from spml.data.lists import duplicate_lines
from spml.data.samples import IGNORE, UNLABELLED, Sample, check_header, read_label
from spml.visualize.report import table

MOST_READ = 200  # images whose labels are read: their shares are within a few per cent of the whole list's
MOST_CLASSES = 40  # lines of the page's table


@dataclass(frozen=True, eq=False)
class Survey:
    """Counts over a training list. Pixels and regions are those of the `read` images, spread evenly over the list.

    `values` counts pixels by label value, with `unlabelled_index` read as 254: 0..K-1 are classes, 255 is void, any
    other value is unlabelled.
    """

    source: str  # the list's path
    images: int
    read: int
    classes: tuple[str, ...]  # K names
    background: int | None
    values: np.ndarray  # (256,) int64
    tags: np.ndarray  # (images with tags, K) bool: of labels, of those read; without the background
    holding: np.ndarray  # (256,) int64: read images whose label holds a value
    regions: tuple[int, ...]  # number of regions of each read image, empty without over-segmentations
    losses: Mapping[str, float]  # name to weight
    weak: bool
    duplicates: tuple[tuple[Sample, Sample], ...] = ()
    warnings: list[Finding] = field(default_factory=list)
    notes: list[Finding] = field(default_factory=list)  # worth a line, and no mistake by themselves

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    @property
    def pixels(self) -> np.ndarray:
        """(K,) int64, pixels of each class."""
        return self.values[: self.num_classes]

    @property
    def seen(self) -> np.ndarray:
        """(K,) int64, images of each class: by labels of those read, else by tags."""
        return self.holding[: self.num_classes] if self.has_labels else self.tags.sum(0)

    @property
    def labelled(self) -> float:
        """Share of pixels with a class, 0..1; NaN where no label was read."""
        return self._share(self.pixels.sum())

    @property
    def unlabelled(self) -> float:
        """Share of pixels that belong to no class, void apart, 0..1; NaN where no label was read."""
        return self._share(self.values[self.num_classes : IGNORE].sum())

    @property
    def void(self) -> float:
        """Share of pixels that are void, 0..1; NaN where no label was read."""
        return self._share(self.values[IGNORE])

    @property
    def has_labels(self) -> bool:
        return bool(self.values.sum())

    def _share(self, count: int) -> float:
        total = self.values.sum()
        return float(count / total) if total else float("nan")

    def page(self, time: str = "") -> str:
        """The survey as text of one page. `time`: what the training will take, in words."""
        lines = [f"training data: {self.source}", f"images        {self.images}"]
        if self.has_labels:
            lines[-1] += "" if self.read == self.images else f" (the labels of {self.read} were read)"
            for name in ("labelled", "unlabelled", "void"):
                lines.append(f"{name:<12} {100 * getattr(self, name):5.1f} % of the pixels")
        if self.regions:
            lines.append(f"regions       {np.mean(self.regions):.1f} an image")
        if self.losses:
            lines.append("losses        " + ", ".join(f"{name} x {weight:g}" for name, weight in self.losses.items()))
        lines.append(f"background    {self._background()}")
        lines += [f"time          {time}"] if time else []
        lines += ["", self._class_table(), ""]
        lines += [f"note: {note.message}" for note in self.notes]
        lines += [f"warning [{warning.code}]: {warning.message}" for warning in self.warnings]
        return "\n".join(lines).rstrip() + "\n"

    def _background(self) -> str:
        return "none" if self.background is None else f"{self.background} ({self.classes[self.background]})"

    def _class_table(self) -> str:
        """A line a class, in the order of their numbers; of many classes those with most pixels."""
        total = max(int(self.pixels.sum()), 1)
        order = np.argsort(-(self.pixels + self.seen), kind="stable")[:MOST_CLASSES]
        rows = []
        for index in sorted(order.tolist()):
            share = f"{100 * self.pixels[index] / total:.2f}" if self.has_labels else "-"
            rows.append((f"{index:3d} {self.classes[index]}", share, int(self.seen[index])))
        left = self.num_classes - len(rows)
        text = table(rows, ("class", "% of labelled", "images"))
        return text + (f"\nand {left} classes with fewer pixels" if left else "")


def survey(
    samples: Sequence[Sample],
    num_classes: int,
    class_names: Sequence[str] = (),
    *,
    background: int | None = 0,
    unlabelled_index: int | None = None,
    losses: Mapping[str, float] | None = None,
    tags: Mapping[str, np.ndarray] | None = None,
    weak: bool = True,
    most: int = MOST_READ,
) -> Survey:
    """Count the content of a training list, and find likely mistakes.

    Args:
        samples: of the list; their labels and regions are read as training reads them.
        num_classes: K.
        class_names: K names; without them classes are called by their number.
        background: the class that is no tag; None if every class can be one.
        unlabelled_index: a value of the labels to read as unlabelled.
        losses: the losses that act, name to weight.
        tags: name of a sample to (K,) bool, if tags are given; else a label's classes are its tags.
        weak: whether the labels should be weak; full masks are then a mistake.
        most: the number of labels to read, spread evenly; 0 reads all.

    Raises:
        DataError: a file that cannot be read, a label of another size than its image.
    """
    names = tuple(class_names) or tuple(f"class {index}" for index in range(num_classes))
    step = 1 if most <= 0 else max(1, -(-len(samples) // most))
    chosen = samples[::step]
    with ThreadPoolExecutor(16) as pool:
        histograms = list(pool.map(lambda sample: _histogram(sample, unlabelled_index), chosen))
        regions = [count for count in pool.map(_count_regions, chosen) if count]
    counts = np.array(histograms, np.int64).reshape(-1, 256)  # (read, 256)
    if tags is None:
        sets = counts[[sample.label is not None for sample in chosen], :num_classes] > 0
    else:
        sets = np.array([tags[sample.name] for sample in samples], bool).reshape(-1, num_classes)
    if background is not None:
        sets[:, background] = False  # of copies
    found = Survey(
        source=str(samples[0].list_path or "samples") if samples else "",
        images=len(samples),
        read=len(chosen),
        classes=names,
        background=background,
        values=counts.sum(0),
        tags=sets,
        holding=(counts > 0).sum(0),
        regions=tuple(regions),
        losses=dict(losses or {}),
        weak=weak,
        duplicates=tuple(duplicate_lines(samples)),
    )
    warnings, notes = find(found)
    found.warnings.extend(warnings)
    found.notes.extend(notes)
    return found


def _histogram(sample: Sample, unlabelled_index: int | None) -> np.ndarray:
    """(256,) int64: pixels by label value, zeros without a label."""
    check_header(sample)
    if sample.label is None:
        return np.zeros(256, np.int64)
    counts = np.bincount(read_label(sample.label, sample.where).ravel(), minlength=256)
    if unlabelled_index is not None and unlabelled_index >= 0 and unlabelled_index != UNLABELLED:
        counts[UNLABELLED] += counts[unlabelled_index]
        counts[unlabelled_index] = 0
    return counts


def _count_regions(sample: Sample) -> int:
    """How many regions an image has, padding apart; 0 without any."""
    if sample.regions is None:
        return 0
    found = np.bincount(read_label(sample.regions, sample.where).ravel(), minlength=256) > 0
    return max(1, int(found[:IGNORE].sum()))
