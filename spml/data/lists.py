"""Reads and writes data lists. The error for a mistake is one line, which names the list and the line in it."""

import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from spml import members
from spml.data.listed import ListedSamples, names_of, places_with, resolve, split_line, take
from spml.data.samples import DataError, Sample, check_header, read_label
from spml.data.shards import is_shard, shard_rows
from spml.data.waiting import in_threads
from spml.files import write_atomically

COLUMNS = ("image", "semantic label", "instance label")


def read_list(list_path: str | Path, data_dir: str | Path, columns: int = 0) -> ListedSamples:
    """Read a data list: `image [semantic [instance]]` on each line, separated by white space, relative to `data_dir`.

    A line with a tab is separated by tabs alone, so that its entries may hold spaces. It drops a leading slash, as the
    released lists need (`/JPEGImages/x.jpg`), unless the file exists at the absolute path. A byte order mark, Windows
    line ends and blank lines are fine. It does not open the files of the list.

    A line that names a tar, or several as `shards/{000..127}.tar`, stands for the samples in them; see `shard_rows`.

    Args:
        columns: how many columns the caller needs, 0 to 3.
    Raises:
        DataError: no such list, no sample in it, too few or too many columns, lines of different width, or commas
            between columns. UserError: a tar that cannot be used.
    """
    if not str(list_path):
        raise DataError("no data list is given: expected a text file, one sample a line")
    list_path, data_dir = Path(list_path), Path(data_dir).expanduser()
    rows: list[str] = []
    numbers: list[int] = []
    width = 0
    for number, line in enumerate(_read_text(list_path).split("\n"), start=1):
        entries = split_line(line)
        if not entries:
            continue
        if is_shard(entries):
            found = [join_entries(row) for row in shard_rows(f"{list_path} line {number}", entries[0], data_dir)]
            entries = split_line(found[0])
        else:
            found = [line.strip("\r\n")]
        if not rows:
            _check_commas(f"{list_path} line {number}", line, data_dir)
        if len(entries) != width or width < columns:
            _check_width(f"{list_path} line {number}", entries, columns, width)
        width = len(entries)
        rows += found
        numbers += [number] * len(found)
    if not rows:
        raise DataError(f"the data list {list_path} is empty: expected `image [semantic [instance]]` on each line")
    return ListedSamples(rows, numbers, list_path, data_dir)


def join_entries(entries: Sequence[str]) -> str:
    """A line of which `split_line` makes the same entries; with tabs where one holds a space."""
    if any(" " in entry for entry in entries):
        return "\t".join(entries) + ("\t" if len(entries) == 1 else "")
    return " ".join(entries)


def _read_text(list_path: Path) -> str:
    try:
        return list_path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise DataError(f"cannot read the data list {list_path}: {reason}") from error


def _check_commas(where: str, line: str, data_dir: Path) -> None:
    """Raise DataError where commas or semicolons separate file names. They may also be part of a file name."""
    parts = [part.strip() for part in re.split("[,;]", line) if part.strip()]
    if (
        len(parts) > 1
        and all(Path(part).suffix for part in parts)
        and not _exists(resolve(split_line(line)[0], data_dir))
    ):
        raise DataError(f"{where}: columns are separated by white space, not by commas; expected `{' '.join(parts)}`")


def _exists(path: Path) -> bool:
    return members.is_file(path) or path.exists()


def _check_width(where: str, entries: Sequence[str], columns: int, width: int) -> None:
    """`width`: the number of columns of the lines before; 0 for the first line."""
    if len(entries) > len(COLUMNS):
        raise DataError(
            f"{where}: expected at most 3 columns (image semantic instance), got {len(entries)}; "
            "where paths hold spaces, separate the columns by tabs"
        )
    if len(entries) < columns:
        raise DataError(f"{where}: no {COLUMNS[len(entries)]}: expected {columns} columns, got {len(entries)}")
    if width and len(entries) != width:
        raise DataError(f"{where}: got {len(entries)} columns, but {width} on the lines before")


def given_entries(sample: Sample, data_dir: str | Path, *parts: str) -> list[str]:
    """The entries of a list for the `parts` ("image", "label", "regions") that a sample has, relative to `data_dir`.

    Raises: DataError for a part that is an array.
    """
    entries = []
    for part in parts:
        source = getattr(sample, part)
        if isinstance(source, np.ndarray):
            raise DataError(f"{sample.where}: a data list cannot name an array: expected a file as {part}")
        if source is not None:
            entries.append(relative_path(source, data_dir))
    return entries


def relative_path(path: str | Path, data_dir: str | Path) -> str:
    """The path relative to `data_dir`, for a list; it starts with `..` if `path` lies elsewhere.

    `..` leads to the parent of the folder that a link points to, so links are followed there. A link in the place of
    the file itself is not, because its name is that of the sample.
    """
    path = Path(path)
    found = os.path.relpath(path, data_dir)
    if found.startswith(os.pardir):
        found = os.path.relpath(os.path.join(os.path.realpath(path.parent), path.name), os.path.realpath(data_dir))
    return Path(found).as_posix()


def write_list(path: str | Path, rows: Iterable[Sequence[str | Path]]) -> None:
    """Write a data list atomically: one line for each row of one to three paths relative to the data folder.

    Raises:
        DataError: a path that is empty or holds a tab or a line's end, or a row of the wrong width.
    """
    content = list_content(path, rows)
    write_atomically(path, lambda file: file.write(content.encode()))


def list_content(path: str | Path, rows: Iterable[Sequence[str | Path]]) -> str:
    """The text of a list that is to be written to `path`. Raises DataError as `write_list` does."""
    lines = []
    for row in rows:
        entries = [entry.as_posix() if isinstance(entry, Path) else entry for entry in row]
        if not 1 <= len(entries) <= len(COLUMNS):
            raise DataError(f"cannot write {path}: expected 1 to 3 columns, got {len(entries)}: {' '.join(entries)}")
        for entry in entries:
            if not entry or entry != entry.strip() or re.search(r"[\t\r\n]", entry):
                raise DataError(f"cannot write {path}: a path in a list must not be empty or hold a tab: {entry!r}")
        lines.append(join_entries(entries) + "\n")
    return "".join(lines)


def split_list(
    list_path: str | Path, save_dir: str | Path | None = None, every: int = 6, part: int = 0, *, overwrite: bool = False
) -> tuple[Path, Path]:
    """Split a training list into one part for choosing settings and one for training.

    Of the sorted lines, counted from 0, `part`, `part + every`, .. go to `<name>_dev.txt`, the others to
    `<name>_fit.txt`, so the same list is split the same way everywhere. The parts 0 to `every - 1` are the folds of a
    cross-validation: each line is in the dev of one of them.

    Args:
        save_dir: where they go; None: beside the list.
        every: 2 or more.
        part: 0 to `every - 1`.
        overwrite: replace lists of these names that hold other lines.

    Returns: the paths of both, dev first.
    Raises: DataError for a list that cannot be read, that has fewer than `every` lines or an image on two of them, and
        for lists of these names with other lines.
    """
    list_path = Path(list_path)
    lines = sorted(join_entries(split_line(line)) for line in _read_text(list_path).split("\n") if line.strip())
    if len(lines) < 2:
        raise DataError(f"{list_path}: expected at least 2 lines to split, got {len(lines)}")
    for image, count in Counter(split_line(line)[0] for line in lines).items():
        if count > 1:
            raise DataError(f"{list_path}: {image} stands on several lines; it would be in both parts")
    if not 2 <= every <= len(lines):
        raise DataError(f"{list_path}: expected 2 to {len(lines)} parts, as it has {len(lines)} lines, got {every}")
    if not 0 <= part < every:
        raise DataError(f"--part: expected 0 to {every - 1}, got {part}")
    folder = list_path.parent if save_dir is None else Path(save_dir)
    parts = {"dev": lines[part::every], "fit": [line for place, line in enumerate(lines) if place % every != part]}
    paths = {name: folder / f"{list_path.stem}_{name}.txt" for name in parts}
    for name, path in paths.items():
        if not overwrite and path.is_file() and _read_text(path).splitlines() != parts[name]:
            raise DataError(f"{path}: holds other lines already: expected another --save_dir, or --overwrite")
    for name, path in paths.items():
        write_list(path, [split_line(line) for line in parts[name]])
    return paths["dev"], paths["fit"]


def check_unique_names(samples: Sequence[Sample]) -> None:
    """Raise DataError where two samples have one name: the second one's output would replace the first one's."""
    seen: dict[str, int] = {}
    for place, name in enumerate(names_of(samples)):
        if (earlier := seen.setdefault(name, place)) != place:
            _raise_twice(samples[earlier], samples[place])


def _raise_twice(first: Sample, sample: Sample) -> None:
    if sample.files == first.files and sample.list_path is not None:
        raise DataError(f"{sample.where}: the same files stand on line {first.line} too; remove one of the lines")
    raise DataError(
        f"{sample.where}: the name {sample.name!r} stands on {_place(first)} too ({_image(first)}, "
        f"{_image(sample)}); output files are named after the image, so names must differ"
    )


def duplicate_lines(samples: Sequence[Sample]) -> list[tuple[Sample, Sample]]:
    """Pairs of samples that name the same files, the earlier one first."""
    seen: dict[int, int] = {}  # by a hash of the files' names: a million tuples of paths take a gigabyte
    pairs = []
    for place, sample in enumerate(samples):
        files = sample.files
        if files and (earlier := seen.setdefault(hash(tuple(map(str, files))), place)) != place:
            pairs += [(samples[earlier], sample)] if samples[earlier].files == files else []
    return pairs


def _place(sample: Sample) -> str:
    return "another sample" if sample.list_path is None else f"line {sample.line}"


def _image(sample: Sample) -> str:
    return str(sample.image) if isinstance(sample.image, Path) else "an array"


def check_samples(samples: Sequence[Sample], num_classes: int, *, unlabelled_index: int | None = None) -> None:
    """Check the files of samples before any work: all exist, their headers open, labels have the size of their image.

    It reads only headers, in threads, and the labels of 16 samples for their values.

    Raises:
        DataError: the first bad file, with list and line; for missing files also their number; or, of at most 16
            labels, none has a pixel of any class (`unlabelled_index` is no class).
    """
    check_files(samples)
    check_values(samples, num_classes, unlabelled_index=unlabelled_index)


def check_files(samples: Sequence[Sample], of: str = "the list's") -> None:
    """Check that the files exist, their headers open, and labels have the size of their image; see `check_samples`.

    `of`: whose files they are, for the message. Of several processes, each may check a share.
    """
    _check_existence(samples, of)
    for _ in in_threads(check_header, samples):
        pass


def check_values(samples: Sequence[Sample], num_classes: int, *, unlabelled_index: int | None = None) -> None:
    """Check that labels hold classes, those of 16 samples; see `check_samples`."""
    labelled = places_with(samples, "label")
    chosen = labelled[:: max(1, -(-len(labelled) // 16))]
    found = np.zeros(256, bool)
    for present in in_threads(_label_values, take(samples, chosen)):
        found |= present
    classes = [value for value in range(num_classes) if value != unlabelled_index]
    if chosen and len(chosen) == len(labelled) and not found[classes].any():
        held = ", ".join(map(str, np.flatnonzero(found)))
        raise DataError(
            f"no pixel of the semantic labels of {samples[0].list_path or 'the samples'} is below num_classes "
            f"{num_classes}: they hold {held}"
        )


def _check_existence(samples: Sequence[Sample], of: str) -> None:
    total, missing = 0, 0
    first: tuple[Sample, Path] | None = None
    exist = in_threads(lambda sample: (sample, [(path, members.is_file(path)) for path in sample.files]), samples)
    for sample, flags in exist:
        total += len(flags)
        lacking = [path for path, there in flags if not there]
        missing += len(lacking)
        if lacking and first is None:
            first = sample, lacking[0]
    if first is not None:
        raise DataError(f"{first[0].where}: no file {first[1]} ({missing} of {of} {total} files are missing)")


def _label_values(sample: Sample) -> np.ndarray:
    """(256,) bool: the values that the label holds."""
    assert sample.label is not None
    return np.bincount(read_label(sample.label, sample.where).ravel(), minlength=256) > 0
