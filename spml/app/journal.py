"""A file of JSON lines that only grows: a line is on disk before `append` returns, whatever happens then."""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from spml.errors import UserError
from spml.files import write_atomically


class Journal:
    """Lines of JSON objects.

    Args:
        path: the file; made where it is missing.

    Attributes:
        lines: how many stand in the file.

    Raises:
        UserError: a file that cannot be read or written, or a damaged line in front of a whole one.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.lines = 0
        self._file: int | None = None

    def read(self) -> list[dict[str, Any]]:
        """All whole lines; what a killed process left unfinished at the end is cut off."""
        try:
            content = self.path.read_bytes() if self.path.exists() else b""
        except OSError as error:
            raise UserError(f"cannot read {self.path}: {error.strerror or error}") from error
        found: list[dict[str, Any]] = []
        kept = place = 0
        damaged = 0  # the first damaged line
        for number, line in enumerate(content.split(b"\n")[:-1], start=1):  # behind the last newline nothing counts
            place += len(line) + 1
            one = _parsed(line)
            if one is None:
                damaged = damaged or number
                continue
            if damaged:
                raise UserError(f"{self.path}: line {damaged} is damaged: expected a JSON object; restore the file")
            found.append(one)
            kept = place
        if kept < len(content):
            _truncate(self.path, kept)
        self.lines = len(found)
        return found

    def append(self, *contents: dict[str, Any]) -> None:
        """Write lines and wait until they are on disk. Raises UserError where that fails, and takes them back."""
        line = memoryview(b"".join(map(encode, contents)))
        try:
            if self._file is None:
                self._file = _open(self.path)
            start = os.fstat(self._file).st_size
            try:
                while line:
                    line = line[os.write(self._file, line) :]
                os.fsync(self._file)
            except OSError:
                os.ftruncate(self._file, start)  # a later line must not follow half of this one
                raise
        except OSError as error:
            raise UserError(f"cannot write {self.path}: {error.strerror or error}") from error
        self.lines += len(contents)

    def replace(self, contents: Iterable[dict[str, Any]]) -> None:
        """Write the file anew in one step. Raises UserError."""
        lines = [encode(content) for content in contents]

        def write(file: Any) -> None:
            for line in lines:
                file.write(line)
            file.flush()
            os.fsync(file.fileno())

        write_atomically(self.path, write)
        self.close()
        _sync_folder(self.path.parent)
        self.lines = len(lines)

    def close(self) -> None:
        """Close the file; the next `append` opens it again."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


def encode(content: dict[str, Any]) -> bytes:
    """A line: JSON in ASCII, and a newline."""
    return json.dumps(content, separators=(",", ":"), allow_nan=False).encode("ascii") + b"\n"


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        content = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def _open(path: Path) -> int:
    new = not path.exists()
    path.parent.mkdir(parents=True, exist_ok=True)
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o644)
    if new:
        _sync_folder(path.parent)
    return file


def _sync_folder(folder: Path) -> None:
    """So that a new name is on disk as well; only some systems can."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _truncate(path: Path, size: int) -> None:
    try:
        os.truncate(path, size)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error
