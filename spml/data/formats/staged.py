"""Files that appear in a folder all at the end, or not at all."""

import contextlib
import filecmp
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType

from spml.errors import UserError

MOST_NAMED = 3


class Staged:
    """A folder beside the files of `target` that collects new ones. Leaving it without `commit` leaves nothing behind.

    Args:
        target: the folder that gets the files; it is made.
        alike: (file that is there, new file) -> whether they say the same, though their bytes differ.

    Raises: UserError where it cannot be written.
    """

    def __init__(self, target: Path, alike: Callable[[Path, Path], bool] = lambda there, new: False) -> None:
        self.target, self.alike = target, alike
        self._made: dict[str, bool] = {}  # name: whether it may replace what is there
        self._gone: set[str] = set()
        self._new = not target.exists()
        try:
            target.mkdir(parents=True, exist_ok=True)
            self._folder = Path(tempfile.mkdtemp(prefix=".formats-", dir=target))
        except OSError as error:
            raise UserError(f"cannot write {target}: {error.strerror or error}") from error

    def __enter__(self) -> "Staged":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)
        if self._new and error is not None:
            with contextlib.suppress(OSError):
                self.target.rmdir()

    def place(self, name: str, grown: bool = False) -> Path:
        """The file to write now that will be `name` in the target, with "/"; its folder exists.

        Args:
            grown: it holds all that the file there holds, and replaces it.
        """
        path = self._folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        self._made[name] = grown
        return path

    def drop(self, names: Iterable[str]) -> None:
        """Files of the target that `commit` removes, unless they are among the new ones."""
        self._gone |= set(names)

    def commit(self, overwrite: bool) -> int:
        """Move the files to the target. What is there already and says the same stays.

        Returns: how many were moved. Raises: UserError, and nothing is moved, for files that are there with other
            content, unless `overwrite` is set.
        """
        names = [name for name in self._made if (self._folder / name).is_file()]
        there = [name for name in names if os.path.lexists(self.target / name)]
        same = {name for name in there if self._is_same(name)}
        other = [name for name in there if name not in same and not self._made[name]]
        if other and not overwrite:
            more = f", and {len(other) - MOST_NAMED} more" if len(other) > MOST_NAMED else ""
            raise UserError(
                f"{self.target}: {', '.join(other[:MOST_NAMED])}{more} are there already with other content; "
                "--overwrite replaces them"
            )
        moved = [name for name in names if name not in same]
        try:
            for name in moved:
                (self.target / name).parent.mkdir(parents=True, exist_ok=True)
                os.replace(self._folder / name, self.target / name)
            for name in self._gone - set(names):
                (self.target / name).unlink(missing_ok=True)
        except OSError as error:
            raise UserError(f"cannot write {self.target / name}: {error.strerror or error}") from error
        return len(moved)

    def _is_same(self, name: str) -> bool:
        there, new = self.target / name, self._folder / name
        return there.is_file() and (filecmp.cmp(there, new, shallow=False) or self.alike(there, new))
