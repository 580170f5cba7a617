"""Files inside tars: `shards/000.tar/x.jpg` is a path like any other, and is read at any place of its tar.

An index of the members lies beside each tar, `000.tar.index`: where each one begins, how long it is, its name. Whoever
first needs the index makes it, if the folder can be written. It is only a hint: every read compares it with the
header that stands before the member, and makes it anew where the tar has changed.
"""

import contextlib
import hashlib
import io
import os
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import BinaryIO

import numpy as np

from spml.errors import UserError
from spml.files import write_atomically

BLOCK = tarfile.BLOCKSIZE
SUFFIX = ".tar"
_HEAD = "index of a tar, 1"  # and its size; another one is made anew
_LONG = 100  # bytes of a name in a header; longer ones stand elsewhere


@dataclass(frozen=True)
class Index:
    """The members of a tar, sorted by a hash of their names: 24 bytes for each, as lists may have millions."""

    key: np.ndarray  # (N,) uint64
    offset: np.ndarray  # (N,) int64, of the content
    size: np.ndarray  # (N,) int64

    def find(self, name: str) -> tuple[int, int] | None:
        """Offset and size of a member; None where there is none."""
        key = _key(name)
        place = int(np.searchsorted(self.key, key))
        if place == len(self.key) or self.key[place] != key:
            return None
        return int(self.offset[place]), int(self.size[place])


def split(path: str | Path) -> tuple[str, str] | None:
    """The tar and the member that a path names; None for a path of a file. A folder called `x.tar` is a folder."""
    text = os.fspath(path)
    if SUFFIX not in text:
        return None
    parts = Path(text).parts
    for count in range(1, len(parts)):
        if parts[count - 1].endswith(SUFFIX):
            tar = os.path.join(*parts[:count])
            if not _is_folder(tar):
                return tar, "/".join(parts[count:])
    return None


def open_binary(path: str | Path) -> BinaryIO:
    """Open a file, or a member of a tar, for reading.

    Raises:
        OSError: there is no such file or member, or it cannot be read. UserError: the tar is damaged or compressed.
    """
    place = split(path)
    return open(path, "rb") if place is None else io.BytesIO(_read(*place))


def is_file(path: str | Path) -> bool:
    """Whether there is such a file or member. Raises UserError for a tar that is damaged or compressed."""
    place = split(path)
    if place is None:
        return os.path.isfile(path)
    return os.path.isfile(place[0]) and _find(*place) is not None


def stamp(path: str | Path) -> tuple[int, ...]:
    """What changes whenever a file or member is written anew: size, times, and place in a tar. Raises OSError."""
    place = split(path)
    found = os.stat(path if place is None else place[0])
    times = found.st_size, found.st_mtime_ns, found.st_ctime_ns
    return times if place is None else (*times, *(_find(*place) or ()))


def names(tar: str | Path) -> list[str]:
    """The names of a tar's files, in its order, from its index. Raises UserError as `open_binary` does."""
    return [name for _, _, name in _members(os.fspath(tar))]


def sizes(tar: str | Path) -> list[tuple[str, int]]:
    """The names and sizes of a tar's files, in its order, from its index. Raises UserError as `open_binary` does."""
    return [(name, size) for _, size, name in _members(os.fspath(tar))]


def write_index(tar: str | Path) -> None:
    """Make the index of a tar. Raises UserError for a tar that cannot be used, or a folder that cannot be written."""
    tar = os.fspath(tar)
    _write(tar, list(_scan(tar)))


def _find(tar: str, name: str) -> tuple[int, int] | None:
    """Offset and size of a member. Before it says that there is none, it looks once into the tar itself."""
    return _index(tar).find(name) or _index(tar, scan=True).find(name)


def _read(tar: str, name: str) -> bytes:
    for _ in range(2):
        found = _find(tar, name)
        if found is None:
            raise FileNotFoundError(2, "no such member", f"{tar}/{name}")
        offset, size = found
        with open(tar, "rb") as file:
            file.seek(offset - BLOCK)
            header, content = file.read(BLOCK), file.read(size)
        if len(content) == size and _is_header(header, name, size):
            return content
        _index.cache_clear()  # the tar has changed
        with contextlib.suppress(OSError):
            os.remove(tar + ".index")
    raise UserError(f"{tar}: {name} cannot be read: the tar changes, or is damaged")


def _is_header(header: bytes, name: str, size: int) -> bool:
    try:
        info = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return False
    return info.size == size and (_plain(info.name) == name or len(name.encode()) >= _LONG or not name.isascii())


@lru_cache(maxsize=4096)
def _is_folder(path: str) -> bool:
    return os.path.isdir(path)


@cache
def _index(tar: str, scan: bool = False) -> Index:
    """`scan`: do not believe the index beside the tar."""
    found = list(_scan(tar)) if scan else _members(tar)
    if scan:
        with contextlib.suppress(UserError):  # a folder that cannot be written
            _write(tar, found)
    key = np.array([_key(name) for _, _, name in found], np.uint64)
    order = np.argsort(key, kind="stable")
    places = np.array([(offset, size) for offset, size, _ in found], np.int64).reshape(-1, 2)[order]
    return Index(key[order], places[:, 0].copy(), places[:, 1].copy())


def _members(tar: str) -> list[tuple[int, int, str]]:
    """Offset, size and name of every member: from the index if it fits the tar, else from the tar itself."""
    with contextlib.suppress(OSError, ValueError):
        head, *lines = Path(tar + ".index").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
        if head == f"{_HEAD} {os.path.getsize(tar)}":
            rows = [line.split(" ", 2) for line in lines]
            return [(int(offset), int(size), name) for offset, size, name in rows]
    found = list(_scan(tar))
    with contextlib.suppress(UserError):  # a folder that cannot be written
        _write(tar, found)
    return found


def _write(tar: str, found: list[tuple[int, int, str]]) -> None:
    lines = [f"{_HEAD} {os.path.getsize(tar)}", *(f"{offset} {size} {name}" for offset, size, name in found)]
    content = "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape")
    write_atomically(tar + ".index", lambda file: file.write(content))


def _scan(tar: str) -> Iterator[tuple[int, int, str]]:
    """Offset, size and name of the files in a tar, from all its headers."""
    places: dict[str, tuple[int, int]] = {}
    try:
        with open(tar, "rb") as file, tarfile.open(fileobj=file, mode="r:") as archive:
            for member in archive:
                name = _plain(member.name)
                if member.islnk() and _plain(member.linkname) in places:
                    offset, size = places[_plain(member.linkname)]
                elif member.isfile() and not member.issparse():
                    offset, size = member.offset_data, member.size
                else:
                    continue
                if "\n" in name:
                    raise UserError(f"{tar}: the name of member {name!r} holds a line's end")
                if name in places:
                    raise UserError(f"{tar}: two members are called {name}: expected each name once")
                places[name] = offset, size
                yield offset, size, name
            file.seek(archive.offset)
            if file.read(BLOCK) != bytes(BLOCK):  # tarfile takes a damaged header for the end
                raise tarfile.ReadError(f"no member and no end at byte {archive.offset:,}")
    except FileNotFoundError:
        raise UserError(f"no file {tar}") from None
    except (tarfile.TarError, EOFError, OSError) as error:
        reason = str(error).split("\n")[0]
        hint = ": it is compressed, unpack it" if _is_compressed(tar) else ""
        raise UserError(f"{tar}: expected a whole, plain tar{hint or f', got: {reason}'}") from error


def _is_compressed(tar: str) -> bool:
    with contextlib.suppress(OSError), open(tar, "rb") as file:
        return file.read(6).startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd"))
    return False


def _plain(name: str) -> str:
    return name.removeprefix("./")


def _key(name: str) -> np.uint64:
    digest = hashlib.blake2b(name.encode("utf-8", "surrogateescape"), digest_size=8).digest()
    return np.uint64(int.from_bytes(digest, "little"))
