"""Writes files atomically, and reads and writes JSON."""

import contextlib
import json
import os
import re
import socket
import threading
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from spml.errors import UserError

_STARTED = time.time()
_HOST = f"{zlib.crc32(socket.gethostname().encode()):08x}"
# Of `write_atomically`: its name holds the machine, which earlier versions left out, and the process's number.
_TEMPORARY = re.compile(r"\..+\.(?:([0-9a-f]{8})-)?(\d+)\.tmp")
_LEFT = 24 * 3600.0  # seconds after which a temporary file of another machine is taken for one of a killed process


def write_atomically(path: str | Path, write: Callable[[BinaryIO], object]) -> None:
    """Call `write` on a temporary file beside `path`, then rename it, so that nobody ever reads a half-written file.

    It makes the folder. A killed process leaves its temporary file; see `remove_stale`.

    Raises:
        UserError: the folder or the file cannot be written.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{threading.get_ident():x}.{_HOST}-{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            write(file)
        os.replace(temporary, path)
    except OSError as error:
        raise UserError(f"cannot write {path}: {why(error)}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def why(error: OSError) -> str:
    """What the machine says, or where a file lies in the place of a folder."""
    if isinstance(error, FileExistsError | NotADirectoryError) and error.filename:
        place = Path(error.filename)
        file = next((one for one in (place, *place.parents) if one.is_file()), None)
        if file is not None:
            return f"{file} is a file, expected a folder"
    return error.strerror or str(error)


def remove_stale(folder: str | Path) -> int:
    """Remove the temporary files of killed processes from a folder and its subfolders.

    It keeps files of running processes, files of other machines that are younger than a day, as their processes cannot
    be asked, and files that do not have a name of `write_atomically`.

    Returns:
        The number of removed files.
    """
    removed = 0
    for pattern in (".*.tmp", "*/.*.tmp"):
        for path in Path(folder).glob(pattern):
            found = _TEMPORARY.fullmatch(path.name)
            if found and not _is_written(path, found[1], int(found[2])):
                with contextlib.suppress(OSError):
                    path.unlink()
                    removed += 1
    return removed


def _is_written(path: Path, host: str | None, pid: int) -> bool:
    """Whether the process that owns a temporary file lives, or may live."""
    if host not in (None, _HOST):
        with contextlib.suppress(OSError):
            return time.time() - path.stat().st_mtime < _LEFT
        return False
    if pid == os.getpid():  # numbers are given again, in containers at each start: an older file is another's
        return path.exists() and path.stat().st_mtime >= _STARTED
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # another user's
        return True
    return True


def write_json(path: str | Path, content: Any) -> None:
    """Write `content` as JSON in one step. Raises UserError where it cannot be written."""
    text = json.dumps(content, indent=2) + "\n"
    write_atomically(path, lambda file: file.write(text.encode()))


def read_json(path: str | Path, what: str = "JSON") -> Any:
    """The content of a JSON file.

    Args:
        what: what the file holds, for the error message.

    Raises:
        UserError: no such file, or no JSON in it.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}; expected {what}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"cannot read {path}: {error}; expected {what}") from error
