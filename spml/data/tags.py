"""Tags: the classes that an image shows, from a list file or from PASCAL VOC's annotations."""

import difflib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from spml.data.prepare.drawings import read_xml
from spml.data.samples import DataError, Sample


def read_tags(
    path: str | Path, samples: Sequence[Sample], num_classes: int, class_names: Sequence[str] = ()
) -> dict[str, np.ndarray]:
    """The tags of every sample, by its name.

    Args:
        path: a text file, `name class class ..` on each line, where a name is the stem of an image's file and a class
            its index, 1 to K - 1, or its name (as `annotate.py --kind tag` writes them; a name alone shows nothing);
            or a folder of VOC annotations `<name>.xml`, whose `<object><name>` count, difficult ones too.
        samples: of the data list; other images of the file are passed over, but read.
        num_classes: K, background included, which is no tag.
        class_names: K names, background first, compared without case, spaces, hyphens and underscores; without
            them a file must hold indexes.

    Returns:
        name to (K,) bool, false for the background.

    Raises:
        DataError: an unreadable file, an unknown class, an image twice, samples without tags; with file and line.
    """
    path = Path(path).expanduser()
    known = {_plain(name): index for index, name in enumerate(class_names)}
    if path.is_dir():
        return {sample.name: _of_xml(path / f"{sample.name}.xml", sample, num_classes, known) for sample in samples}
    found = _of_list(path, num_classes, known)
    absent = [sample for sample in samples if sample.name not in found]
    if absent:
        raise DataError(
            f"{path}: no line for {absent[0].name!r} of {absent[0].where} "
            f"({len(absent)} of {len(samples)} images have none); expected `name class class ..`"
        )
    return {sample.name: found[sample.name] for sample in samples}


def given_tag(sample: Sample, num_classes: int, class_names: Sequence[str] = ()) -> np.ndarray:
    """(K,) bool: the tags that a sample brings itself, by name or index. Raises DataError for an unknown class."""
    known = {_plain(name): index for index, name in enumerate(class_names)}
    words = [str(word) for word in sample.tags or ()]
    return _tag([_index(word, num_classes, known, sample.where) for word in words], num_classes)


def _of_list(path: Path, num_classes: int, known: dict[str, int]) -> dict[str, np.ndarray]:
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
        name, *classes = line.split()
        if name in found:
            raise DataError(f"{where}: {name!r} has a line already; expected one line an image")
        found[name] = _tag([_index(word, num_classes, known, where) for word in classes], num_classes)
    return found


def _of_xml(path: Path, sample: Sample, num_classes: int, known: dict[str, int]) -> np.ndarray:
    if not path.is_file():
        raise DataError(f"dataset.tags: no file {path} for the image of {sample.where}")
    if not known:
        raise DataError(
            f"dataset.tags {path.parent}: XML holds names of classes: give theirs in a file dataset.classes"
        )
    objects = read_xml(path).findall("object")
    names = [(number, found.findtext("name") or "") for number, found in enumerate(objects, start=1)]
    return _tag([_index(name, num_classes, known, f"{path} object {number}") for number, name in names], num_classes)


def _index(word: str, num_classes: int, known: dict[str, int], where: str) -> int:
    """The class of a word: a name goes before a number."""
    index = known.get(_plain(word), int(word) if word.isascii() and word.isdigit() else -1)
    if 0 < index < num_classes:
        return index
    close = difflib.get_close_matches(_plain(word), known, n=1)
    hint = f"; did you mean {close[0]}?" if close and known[close[0]] != index else ""
    kinds = f"1 to {num_classes - 1}" + (" or its name" if known else " (names need dataset.classes)")
    no_tag = " (the background is no tag)" if index == 0 else ""
    raise DataError(f"{where}: expected a class, {kinds}, got {word!r}{no_tag}{hint}")


def _tag(indexes: Sequence[int], num_classes: int) -> np.ndarray:
    tag = np.zeros(num_classes, bool)
    tag[list(indexes)] = True
    return tag


def _plain(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())
