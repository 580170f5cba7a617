"""The samples of a data list: the list's text, from which each sample is made when somebody asks for it.

A million samples with three files each take some gigabyte as objects, and again in each process that works on them;
their lines take a hundred megabytes. Other sequences of samples, such as arrays that a program gives, pass through the
functions below as they are.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import overload

import numpy as np

from spml import members
from spml.data.samples import Sample

PARTS = ("image", "label", "regions")


def split_line(line: str) -> list[str]:
    """The entries of a line: separated by tabs where it has one, else by white space."""
    return [entry.strip() for entry in line.split("\t") if entry.strip()] if "\t" in line.strip("\n") else line.split()


def resolve(entry: str, data_dir: Path) -> Path:
    """The file of an entry: the absolute path if that is a file, else a path below `data_dir`."""
    if entry.startswith("/") and members.is_file(entry):
        return Path(entry)
    return data_dir / entry.lstrip("/")


def stem(entry: str) -> str:
    """The name of the image of an entry: that of its file, without the ending."""
    name = os.path.basename(entry)
    dot = name.rfind(".")
    return name[:dot] if 0 < dot < len(name) - 1 else name


class ListedSamples(Sequence[Sample]):
    """Samples of a list's lines, in any order and choice. A slice is another choice of the same lines."""

    def __init__(
        self, rows: Sequence[str], numbers: Sequence[int] | np.ndarray, list_path: Path, data_dir: Path
    ) -> None:
        """`rows`: lines without their ends, each of one to three entries. `numbers`: which line of the list each is."""
        self._text = "\n".join(rows)
        lengths = np.fromiter(map(len, rows), np.int64, len(rows))
        self._end = np.cumsum(lengths + 1) - 1
        self._begin = self._end - lengths
        self._number = np.asarray(numbers, np.int64)
        self._chosen = np.arange(len(rows))
        self._parts: tuple[str, ...] = PARTS
        self.list_path, self.data_dir = list_path, data_dir

    def __len__(self) -> int:
        return len(self._chosen)

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> "ListedSamples": ...
    def __getitem__(self, index: int | slice) -> "Sample | ListedSamples":
        if isinstance(index, slice):
            return self.take(np.arange(len(self))[index])
        row = self._chosen[index]
        entries = split_line(self._text[self._begin[row] : self._end[row]])
        files = {part: resolve(entry, self.data_dir) for part, entry in zip(PARTS, entries, strict=False)}
        kept = {part: file for part, file in files.items() if part in self._parts}
        return Sample(**kept, name=stem(entries[0]), line=int(self._number[row]), list_path=self.list_path)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[Sample]:
        return (self[index] for index in range(len(self)))

    def take(self, places: Sequence[int] | np.ndarray) -> "ListedSamples":
        """The samples at some places."""
        other = self._other()
        other._chosen = self._chosen[np.asarray(places, np.int64)]
        return other

    def only(self, *parts: str) -> "ListedSamples":
        """The same samples with these parts alone."""
        other = self._other()
        other._parts = tuple(part for part in self._parts if part in parts)
        return other

    def names(self) -> Iterator[str]:
        """The samples' names."""
        for row in self._chosen:
            yield stem(split_line(self._text[self._begin[row] : self._end[row]])[0])

    def _other(self) -> "ListedSamples":
        other = object.__new__(ListedSamples)
        other.__dict__.update(self.__dict__)
        return other


def take(samples: Sequence[Sample], places: Sequence[int] | np.ndarray) -> Sequence[Sample]:
    """The samples at some places."""
    return samples.take(places) if isinstance(samples, ListedSamples) else [samples[int(place)] for place in places]


def only(samples: Sequence[Sample], *parts: str) -> Sequence[Sample]:
    """The samples with their image and, of "label" and "regions", these parts alone."""
    if isinstance(samples, ListedSamples):
        return samples.only("image", *parts)
    without = {part: None for part in ("label", "regions") if part not in parts}
    return [replace(sample, **without) for sample in samples]  # type: ignore[arg-type]


def places_with(samples: Sequence[Sample], part: str) -> Sequence[int]:
    """The places of samples that have a part. All lines of a list are equally wide, so that the first one tells."""
    if isinstance(samples, ListedSamples):
        return range(len(samples)) if len(samples) and getattr(samples[0], part) is not None else []
    return [place for place, sample in enumerate(samples) if getattr(sample, part) is not None]


def names_of(samples: Sequence[Sample]) -> Iterable[str]:
    """The samples' names."""
    return samples.names() if isinstance(samples, ListedSamples) else (sample.name for sample in samples)
