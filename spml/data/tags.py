"""Tags: the classes of an image, from a list file or from PASCAL VOC's annotations."""

import difflib
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from spml.data.prepare.drawings import plain_name
from spml.data.samples import DataError, Sample
from spml.data.xml import read_xml


def read_tags(
    path: str | Path,
    samples: Sequence[Sample],
    num_classes: int,
    class_names: Sequence[str] = (),
    background: int | None = 0,
) -> dict[str, np.ndarray]:
    """The tags of every sample, by its name.

    Args:
        path: a text file with lines `name class class ..`, as `spml annotate --kind tag` writes it. The name is the
            stem of an image's file, a class is its index, 0 to K - 1, or its name; a line with only a name has no tag.
            Tabs may stand between them where names hold spaces.
            Or a folder of VOC annotations `<name>.xml`, whose `<object><name>` count, including difficult ones.
        samples: of the data list; other images of the file are read and ignored.
        num_classes: K, the background included.
        background: the class that is no tag; None: every class is a tag.
        class_names: K names, that of class 0 first, compared without case, spaces, hyphens and underscores; without
            them a file must hold indexes.

    Returns:
        name to (K,) bool, false for the background.

    Raises:
        DataError: an unreadable file, an unknown class, an image twice, samples without tags; with file and line.
    """
    path = Path(path).expanduser()
    classes = _Classes(num_classes, class_names, background)
    if path.is_dir():
        return {sample.name: _of_xml(path / f"{sample.name}.xml", sample, classes) for sample in samples}
    found = _of_list(path, classes)
    absent = [sample for sample in samples if sample.name not in found]
    if absent:
        raise DataError(
            f"{path}: no line for {absent[0].name!r} of {absent[0].where} "
            f"({len(absent)} of {len(samples)} images have none); expected `name class class ..`"
        )
    return {sample.name: found[sample.name] for sample in samples}


def given_tag(
    sample: Sample, num_classes: int, class_names: Sequence[str] = (), background: int | None = 0
) -> np.ndarray:
    """(K,) bool: the tags that a sample brings itself, by name or index. Raises DataError for an unknown class."""
    classes = _Classes(num_classes, class_names, background)
    return classes.tag((str(word), sample.where) for word in sample.tags or ())


class _Classes:
    """The classes that words of a tag file can mean."""

    def __init__(self, num_classes: int, class_names: Sequence[str], background: int | None) -> None:
        self.count, self.background = num_classes, background
        self.known = {plain_name(name): index for index, name in enumerate(class_names)}

    def tag(self, words: Iterable[tuple[str, str]]) -> np.ndarray:
        """(K,) bool of words, each with its place in the file."""
        tag = np.zeros(self.count, bool)
        tag[[self.index(word, where) for word, where in words]] = True
        return tag

    def index(self, word: str, where: str) -> int:
        """The class of a word: first by name, then by number."""
        index = self.known.get(plain_name(word), int(word) if word.isascii() and word.isdigit() else -1)
        if 0 <= index < self.count and index != self.background:
            return index
        close = difflib.get_close_matches(plain_name(word), self.known, n=1)
        hint = f"; did you mean {close[0]}?" if close and self.known[close[0]] != index else ""
        first = 1 if self.background == 0 else 0
        kinds = f"{first} to {self.count - 1}" + (" or its name" if self.known else " (names need dataset.classes)")
        no_tag = " (the background is no tag)" if index == self.background else ""
        raise DataError(f"{where}: expected a class, {kinds}, got {word!r}{no_tag}{hint}")


def _of_list(path: Path, classes: _Classes) -> dict[str, np.ndarray]:
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise DataError(
            f"dataset.tags {path}: expected a text file `name class class ..` or a folder of VOC XML: {reason}"
        ) from error
    found: dict[str, np.ndarray] = {}
    for number, line in enumerate(lines, start=1):
        if not line.split():
            continue
        where = f"{path} line {number}"
        name, *words = tag_words(line)
        if name in found:
            raise DataError(f"{where}: {name!r} has a line already; expected one line an image")
        found[name] = classes.tag((word, where) for word in words)
    return found


def tag_words(line: str) -> list[str]:
    """The name and the tags of a line: between tabs, or between spaces where it has no tab."""
    return [word for part in line.split("\t") if (word := part.strip())] if "\t" in line else line.split()


def _of_xml(path: Path, sample: Sample, classes: _Classes) -> np.ndarray:
    if not path.is_file():
        raise DataError(f"dataset.tags: no file {path} for the image of {sample.where}")
    if not classes.known:
        raise DataError(
            f"dataset.tags {path.parent}: XML holds names of classes: give theirs in a file dataset.classes"
        )
    objects = read_xml(path).findall("object")
    return classes.tag(
        (found.findtext("name") or "", f"{path} object {number}") for number, found in enumerate(objects, start=1)
    )
