"""Samples inside tars, as the format WebDataset has them: the files of a sample stand under one name in one tar.

    x.jpg  x.label.png  x.regions.png

This file knows the names; `spml.members` reads the files. A list line that names tars is turned into the lines of
their samples, `shard.tar/x.jpg shard.tar/x.label.png`, so that everything behind the list knows paths alone.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from spml import members
from spml.data.samples import DataError

LABEL, REGIONS = ".label.png", ".regions.png"
IMAGES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp", ".ppm", ".pgm", ".gif")
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
MOST = 1_000_000  # shards of one line


def is_shard(entries: Sequence[str]) -> bool:
    """Whether a line of a list names tars instead of a sample."""
    return len(entries) == 1 and entries[0].endswith(members.SUFFIX)


def shard_rows(where: str, entry: str, data_dir: Path) -> Iterator[list[str]]:
    """The entries `image [label [regions]]` of every sample in the tars of a list line, in their order.

    Other members, such as `x.json`, are ignored.

    Args:
        where: list and line, for messages.
        entry: the path of a tar, relative to `data_dir` or absolute; `{000..127}` stands for every number in between.

    Raises:
        DataError: no such tar; two images of one name; a label without an image; samples of different width.
        UserError: a tar that is damaged or compressed, or has a member twice.
    """
    first: tuple[str, tuple[str, ...]] | None = None
    for shard in expand(where, entry):
        absolute = shard.startswith("/") and Path(shard).is_file()
        tar = Path(shard) if absolute else data_dir / shard.lstrip("/")
        if not tar.is_file():
            raise DataError(f"{where}: no file {tar}")
        for key, parts in _group(f"{where}: {tar}", members.names(tar)).items():
            first = first or (f"{tar}/{key}", tuple(parts))
            _check_parts(where, f"{tar}/{key}", parts, *first)
            yield [f"{shard}/{name}" for name in parts.values()]
    if first is None:
        raise DataError(f"{where}: {entry} holds no sample: expected x.jpg, and beside it x.label.png, x.regions.png")


def expand(where: str, entry: str) -> list[str]:
    """The paths of an entry with ranges in braces, `{000..127}`, whose width all numbers have. Raises DataError."""
    found = _RANGE.search(entry)
    if found is None:
        if "{" in entry or "}" in entry:
            raise DataError(f"{where}: expected a range of shards such as {{000..127}}, got {entry}")
        return [entry]
    low, high, width = int(found[1]), int(found[2]), len(found[1])
    if not 0 <= high - low < MOST:
        raise DataError(f"{where}: expected a range that rises, of less than {MOST:,} shards, got {found[0]}")
    begin, end = entry[: found.start()], entry[found.end() :]
    return [path for number in range(low, high + 1) for path in expand(where, f"{begin}{number:0{width}}{end}")]


def _group(where: str, names: Sequence[str]) -> dict[str, dict[str, str]]:
    """The members of each sample: its name to `image`, `label` and `regions`, in this order."""
    found: dict[str, dict[str, str]] = {}
    for name in names:
        key, part = _part(name)
        if not part:
            continue
        own = found.setdefault(key, {})
        if part in own:
            hint = f"; expected labels to be called {key}{LABEL}" if part == "image" else ""
            raise DataError(f"{where}: {own[part]} and {name} are both the {part} of {key}{hint}")
        own[part] = name
    for key, parts in found.items():
        if "image" not in parts:
            alone = next(iter(parts.values()))
            raise DataError(f"{where}: no image beside {alone}: expected {key}.jpg or another image")
    order = ("image", "label", "regions")
    return {key: {part: parts[part] for part in order if part in parts} for key, parts in found.items()}


def _part(name: str) -> tuple[str, str]:
    """The sample that a member belongs to, and as what; "" for none."""
    for ending, part in ((LABEL, "label"), (REGIONS, "regions")):
        if name.endswith(ending):
            return name.removesuffix(ending), part
    key, dot, ending = name.rpartition(".")
    hidden = key.rpartition("/")[2].startswith(".") or not key.rpartition("/")[2]
    return key, "image" if f"{dot}{ending}".lower() in IMAGES and not hidden else ""


def _check_parts(where: str, sample: str, parts: dict[str, str], first: str, expected: tuple[str, ...]) -> None:
    if "regions" in parts and "label" not in parts:
        raise DataError(f"{where}: {sample} has {REGIONS} and no {LABEL}: expected both, or only a label")
    if tuple(parts) != expected:
        got, wanted = ("image " + " ".join(names[1:]) for names in (tuple(parts), expected))
        raise DataError(f"{where}: {sample} has {got.strip()}, but {first} {wanted.strip()}: expected the same of all")
