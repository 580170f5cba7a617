"""The origin of the files in a folder: `record.json`, the one way to tell old results from those of this run.

A record holds hashes of the weights, the settings that matter, and hashes of the contents of the inputs. It lies beside
the files that it describes. A run that finds its own record continues. A run that finds another record stops and says
what differs, or removes the files of that record.
"""

import hashlib
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn

from spml import members
from spml.errors import UserError
from spml.files import read_json, remove_stale, write_json

RECORD = "record.json"
NEUTRAL = ("device", "backend", "workers")  # fields that decide where something is computed, not what
READERS = 8  # threads that hash files
WAITING = 1024  # files that wait for them
BLOCK = 1 << 22
LENGTH = 16  # characters of a hash
REMEDY = "expected another folder, or --overwrite"


class OtherFiles(UserError):
    """A folder holds files of another record, or of none.

    Args:
        told: what is there.
        folder: where.
        remedy: what is expected of the user.
    """

    def __init__(self, told: str, folder: Path, remedy: str) -> None:
        super().__init__(f"{told}: {remedy}")
        self.told, self.folder = told, folder


@dataclass(frozen=True)
class Record:
    """The origin of the files in a folder. Two records are equal if weights, settings and contents are equal."""

    kind: str  # what they are, in the plural: "pseudo labels"
    weights: Mapping[str, str] = field(default_factory=dict)  # name to hash
    settings: Mapping[str, Any] = field(default_factory=dict)  # as `describe` returns them
    contents: Mapping[str, str] = field(default_factory=dict)  # name to hash of what went in
    notes: Mapping[str, Any] = field(default_factory=dict, compare=False)  # for people: the list, counts
    complete: bool = field(default=False, compare=False)

    def __post_init__(self) -> None:
        for name in ("weights", "settings", "contents", "notes"):  # as JSON gives them back
            object.__setattr__(self, name, describe(dict(getattr(self, name))))


def record_of(kind: str, things: Mapping[str, Any], contents: Mapping[str, str] | None = None, **notes: Any) -> Record:
    """The record of a result that depends on `things`.

    It sorts networks into the weights, tensors and arrays into the contents, and the rest into the settings, each under
    its path, such as `predictor.model`. It leaves out paths of files.

    Args:
        things: dataclasses, networks, tensors, mappings, plain values; see `describe`.
        contents: more hashes, such as those of `hash_files`.
        notes: for people.
    """
    weights: dict[str, str] = {}
    held: dict[str, str] = {}
    settings = _described({str(key): value for key, value in things.items()}, "", weights, held)
    return Record(kind, weights, settings, {**held, **(contents or {})}, notes)


def describe(thing: Any) -> Any:
    """Convert `thing` for JSON: dataclasses to their fields, networks and tensors to a hash of their content."""
    return _described(thing, "", None, None)


def _described(thing: Any, path: str, weights: dict[str, str] | None, contents: dict[str, str] | None) -> Any:
    """If `weights` and `contents` are given, it puts hashes into these under `path`, and omits the fields."""
    if _is_module(thing) or _is_array(thing):
        digest = hash_weights(thing) if _is_module(thing) else hash_array(thing)
        table = weights if _is_module(thing) else contents
        if table is None:
            return digest
        table[path] = digest
        return _GONE
    if is_dataclass(thing) and not isinstance(thing, type):
        kept = {one.name: getattr(thing, one.name) for one in fields(thing) if one.name not in NEUTRAL}
        return {"kind": type(thing).__name__, **_described(kept, path, weights, contents)}
    if isinstance(thing, Mapping):
        found = {
            str(key): _described(value, f"{path}.{key}" if path else str(key), weights, contents)
            for key, value in thing.items()
        }
        return {key: value for key, value in found.items() if value is not _GONE}
    if isinstance(thing, (list, tuple)):
        found_items = [_described(item, f"{path}.{i}", weights, contents) for i, item in enumerate(thing)]
        return [item for item in found_items if item is not _GONE]
    if thing is None or isinstance(thing, (bool, int, float, str)):
        return thing
    if hasattr(thing, "item"):  # a number of numpy
        return thing.item()
    if isinstance(thing, Path):  # in a record contents count, and not where they lie
        return str(thing) if contents is None else _GONE
    return type(thing).__name__


_GONE = object()


def _is_module(thing: Any) -> bool:
    torch = sys.modules.get("torch")  # where nobody imported it, nothing is a network
    return torch is not None and isinstance(thing, torch.nn.Module)


def _is_array(thing: Any) -> bool:
    return hasattr(thing, "dtype") and bool(getattr(thing, "shape", ()))


def hash_file(path: str | Path) -> str:
    """A hash of the bytes of a file, 16 characters. Raises UserError where it cannot be read."""
    digest = hashlib.sha256()
    try:
        with members.open_binary(path) as file:
            while block := file.read(BLOCK):
                digest.update(block)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    return digest.hexdigest()[:LENGTH]


def hash_files(parts: Iterable[Any]) -> str:
    """A hash of the names and bytes of files, in their order; their folders do not count.

    If the order has no effect on the result, the caller sorts them.

    Args:
        parts: paths, or arrays instead of files.

    Raises:
        UserError: a file that cannot be read.
    """

    def one(part: Any) -> str:
        return hash_array(part) if _is_array(part) else f"{Path(part).name} {hash_file(part)}"

    digest, left = hashlib.sha256(), iter(parts)
    with ThreadPoolExecutor(READERS) as pool:
        while block := list(islice(left, WAITING)):  # of a million files, each that waits would take a kilobyte
            for line in pool.map(one, block):
                digest.update(f"{line}\n".encode())
    return digest.hexdigest()[:LENGTH]


def hash_array(array: Any) -> str:
    """A hash of the type, shape and values of a numpy array or a tensor, wherever and however it is stored."""
    if hasattr(array, "detach"):
        torch = sys.modules["torch"]
        name, shape = str(array.dtype).removeprefix("torch."), tuple(array.shape)
        data = (
            array.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
        )  # as it lies: it may have gigabytes
    else:
        name, shape, data = str(array.dtype), tuple(array.shape), array.tobytes()
    digest = hashlib.sha256()
    digest.update(f"{name} {shape} ".encode())
    digest.update(data)
    return digest.hexdigest()[:LENGTH]


def hash_json(thing: Any) -> str:
    """A hash of anything that JSON holds, such as the classes of each image."""
    return hashlib.sha256(json.dumps(thing).encode()).hexdigest()[:LENGTH]


def hash_weights(source: Any) -> str:
    """A hash of the weights of a network, or of all networks in a snapshot: of names and values, not of a file's bytes.

    It ignores counters of batch norms, which do not change the output of a network.

    Args:
        source: a module; or the path of a snapshot, whose parts all count.

    Raises:
        UserError: a snapshot that cannot be read.
    """
    digest = hashlib.sha256()
    for key, value in sorted(_state(source).items()):
        if not key.endswith("num_batches_tracked"):
            digest.update(f"{key} {hash_array(value)}\n".encode())
    return digest.hexdigest()[:LENGTH]


def _state(source: Any) -> dict[str, Any]:
    if not isinstance(source, (str, Path)):
        return source.state_dict()
    import torch

    try:
        content = torch.load(source, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load has no one error for a file that is not its own
        raise UserError(f"cannot read {source}: expected a snapshot, got {type(error).__name__}") from error
    flat = {}
    for part, state in content.items() if isinstance(content, dict) else ():
        for key, value in state.items() if isinstance(state, dict) else [("", state)]:
            if hasattr(value, "dtype"):
                flat[f"{part}.{key}"] = value
    return flat


def start(
    folder: str | Path,
    record: Record,
    *,
    made: Sequence[str],
    overwrite: bool = False,
    older: Path | None = None,
    adopt: bool = False,
    remedy: str = REMEDY,
) -> bool:
    """Write `record` to the folder before its first file, or check that the folder has the same record.

    It removes temporary files of killed processes. Under torchrun one process calls this and the others wait.

    Args:
        made: patterns of the files that the record describes, such as `*.png`, relative to the folder.
        overwrite: first remove such files if they belong to another record.
        older: the file that an older version wrote instead of a record. If the folder has it and no record, the files
            count as those of another record; the new record replaces it.
        adopt: such files in a folder without a record count as this run's own. Otherwise they need `overwrite`:
            somebody else made them, perhaps by hand.
        remedy: what the message about other files expects of the user.

    Returns:
        Whether everything is made already: the folder has the same record, and it is complete.

    Raises:
        OtherFiles: the folder has such files of another record (the message names what differs), or of none.
        UserError: it has another kind of files, or cannot be written.
    """
    folder = Path(folder)
    remove_stale(folder)
    before = read(folder)
    if before is None and older is not None and older.is_file():
        before = Record(_UNKNOWN)
    if before == record:
        assert before is not None
        return before.complete
    there = [path for pattern in made for path in sorted(folder.glob(pattern))]
    if before is None and there and not adopt and not overwrite:
        refuse_foreign(there[0], remedy)
    stale = [] if before is None else there
    if before is not None and before.kind not in (record.kind, _UNKNOWN):
        raise UserError(f"{folder / RECORD}: this folder holds {before.kind}: expected another one for {record.kind}")
    if stale and not overwrite:
        assert before is not None
        told = f"{folder / RECORD}: other {record.kind} are here ({'; '.join(differences(before, record))})"
        raise OtherFiles(told, folder, remedy)
    for path in stale:
        path.unlink(missing_ok=True)
    _write(folder, replace(record, complete=False))
    if older is not None:
        older.unlink(missing_ok=True)
    return False


def refuse_foreign(path: Path, remedy: str = REMEDY) -> NoReturn:
    """Raise OtherFiles for a file without a record, which a command would replace."""
    raise OtherFiles(f"{path}: no record says what made this file, so it may be your own", path.parent, remedy)


def finish(folder: str | Path, **notes: Any) -> None:
    """Set the folder's record to complete, and add `notes` to its own."""
    record = read(folder)
    assert record is not None, "finish follows start"
    _write(Path(folder), replace(record, notes={**record.notes, **notes}, complete=True))


def reopen(folder: str | Path) -> None:
    """Undo `finish`, before something is made again."""
    record = read(folder)
    if record is not None and record.complete:
        _write(Path(folder), replace(record, complete=False))


def read(folder: str | Path) -> Record | None:
    """The record of a folder; None if there is none. Raises UserError for an unreadable one."""
    path = Path(folder) / RECORD
    if not path.is_file():
        return None
    content = read_json(path, "what an earlier run wrote there")
    try:
        record = Record(**content)
    except TypeError:
        raise UserError(f"{path}: expected what an earlier run wrote there, got other keys") from None
    return record


def require_complete(folder: str | Path, what: str) -> Record | None:
    """The record of a folder that the caller will read; None if there is none, as in the release's folders.

    Raises:
        UserError: the run that writes the folder was interrupted, or has not ended.
    """
    record = read(folder)
    if record is not None and not record.complete:
        raise UserError(
            f"{Path(folder)}: {what} is not complete, as the run that writes it has not ended: "
            "give that command again, it goes on"
        )
    return record


def differences(before: Record, now: Record) -> list[str]:
    """What differs between two records: `settings.views.flip false, now true`, or `contents.list has changed`."""
    if before.kind != now.kind:
        return [f"{before.kind}, now {now.kind}"]
    one, other = (
        {"weights": record.weights, "settings": record.settings, "contents": record.contents}
        for record in (before, now)
    )
    return _differences(one, other)


def _differences(before: Any, now: Any, path: str = "") -> list[str]:
    if not (isinstance(before, Mapping) and isinstance(now, Mapping)):
        if before == now:
            return []
        if path.startswith(("contents.", "weights.")):  # hashes, which tell people nothing
            return [f"{path} {'is new' if before is None else 'is gone' if now is None else 'has changed'}"]
        return [f"{path} {_short(before)}, now {_short(now)}"]
    if before.get("kind") != now.get("kind"):  # of two classes: their other fields say nothing more
        return _differences(before.get("kind"), now.get("kind"), path)
    keys = dict.fromkeys([*before, *now])
    return [
        line
        for key in keys
        for line in _differences(before.get(key), now.get(key), f"{path}.{key}" if path else str(key))
    ]


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."


_UNKNOWN = "files of an older version, which said less of what made them"


def _write(folder: Path, record: Record) -> None:
    content = asdict(record)
    write_json(folder / RECORD, {"kind": content.pop("kind"), "complete": content.pop("complete"), **content})
