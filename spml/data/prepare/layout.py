"""What lies where in a data root: the lists of a data set, each with the files that its samples should have."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from spml.data.lists import write_list
from spml.data.samples import DataError


@dataclass(frozen=True)
class Column:
    """Files of one kind: `<folder>/<name><suffix>`, in the first of `folders` that has the name."""

    folders: tuple[str, ...]
    suffix: str = ".png"


@dataclass(frozen=True)
class ListPlan:
    """One data list: its name without `.txt`, the samples it should have, their columns, and what it is needed for.

    `beside` are files that the samples need and the list does not name.
    """

    name: str
    samples: tuple[str, ...]
    columns: tuple[Column, ...]
    needed_for: tuple[str, ...]
    beside: tuple[Column, ...] = ()


class DataRoot:
    """A data root, each folder of which is read once."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).expanduser()
        if not self.path.is_dir():
            raise DataError(f"--data_dir {path}: no such folder")
        self._stems: dict[tuple[str, str], frozenset[str]] = {}

    def stems(self, column: Column) -> frozenset[str]:
        """The names that have a file of this kind."""
        found: frozenset[str] = frozenset()
        for folder in column.folders:
            key = (folder, column.suffix)
            if key not in self._stems:
                self._stems[key] = frozenset(file.stem for file in (self.path / folder).glob(f"*{column.suffix}"))
            found |= self._stems[key]
        return found

    def find(self, column: Column, name: str) -> str | None:
        """The path relative to the root of a sample's file; None where there is none."""
        for folder in column.folders:
            if name in self.stems(Column((folder,), column.suffix)):
                return f"{folder}/{name}{column.suffix}"
        return None

    def rows(self, plan: ListPlan) -> list[list[str]]:
        """The lines of a list: of the samples that have all files."""
        rows = [[self.find(column, name) for column in plan.columns] for name in plan.samples]
        return [[path for path in row if path] for row in rows if all(row)]

    def missing(self, column: Column, names: Iterable[str]) -> list[str]:
        """The names without a file of this kind, sorted."""
        return sorted(set(names) - self.stems(column))

    def names(self, *relative: str) -> list[str]:
        """The names of an image set in the root, one a line; further columns are left out.

        Raises: DataError where the file cannot be read or holds no name.
        """
        path = self.path.joinpath(*relative)
        try:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
            raise DataError(f"cannot read the image set {path}: {reason}") from error
        names = [line.split()[0] for line in lines if line.strip()]
        if not names:
            raise DataError(f"the image set {path} is empty: expected one image name a line")
        return names


def write_lists(plans: Sequence[ListPlan], root: DataRoot, save_dir: str | Path) -> str:
    """Write `save_dir/<name>.txt` for every list that has a sample, and return a table of them.

    Samples that lack a file are left out; the table says how many lack it in which folder.
    Raises: DataError where no list has a sample.
    """
    lines, written = [], 0
    for plan in plans:
        rows = root.rows(plan)
        if rows:
            write_list(Path(save_dir) / f"{plan.name}.txt", rows)
            written += 1
        lacking = [(len(root.missing(column, plan.samples)), column.folders[0]) for column in plan.columns]
        listed = ", ".join(f"{count:,} in {folder}" for count, folder in lacking if count)
        state = f"{len(rows):,} of {len(plan.samples):,}" if rows else "not written"
        lines.append((f"{plan.name}.txt", state, listed if plan.samples else "no name known"))
    if not written:
        raise DataError(f"{root.path}: no list can be written; pyscripts/data/check.py says which files are expected")
    return f"{remarks(lines, ('list', 'lines', 'files that are missing'))}\n{written} lists written to {save_dir}"


def remarks(rows: Sequence[tuple[str, str, str]], header: tuple[str, str, str]) -> str:
    """A text table of a name, a count, aligned right, and a remark, which may be long."""
    first, second = (max(len(row[place]) for row in [header, *rows]) for place in (0, 1))
    rule = ("-" * first, "-" * second, "-" * len(header[2]))
    lines = [f"{name:<{first}}  {count:>{second}}  {remark}" for name, count, remark in (header, rule, *rows)]
    return "\n".join(line.rstrip() for line in lines)
