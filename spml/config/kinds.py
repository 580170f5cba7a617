"""The kinds of values of config keys: what each accepts, and how an error describes it."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from spml.classes import KNOWN_CLASSES


@dataclass(frozen=True)
class Kind:
    """`read` converts the content of a YAML file or command line to the value, or raises one of `MISREAD`."""

    expected: str
    read: Callable[[Any], Any]
    options: tuple[str, ...] = ()  # the words it takes, of which an error names the nearest
    textual: bool = False  # on a command line the text is the value, even where YAML would see a number or a comment


MISREAD = (TypeError, ValueError, OverflowError)


class NoSuchName(ValueError):
    """A name that a table lacks; `options` are the table's names when the value is read."""

    def __init__(self, expected: str, options: Iterable[str]) -> None:
        super().__init__("no such name")
        self.expected, self.options = expected, tuple(options)


def _plain_number(value: Any) -> float:
    if isinstance(value, bool):
        raise TypeError("a truth value is no number")
    result = float(value)  # YAML 1.1 reads 3e-3 as a string, so strings count
    if not math.isfinite(result):
        raise ValueError("not finite")
    return result


def integer(low: int, high: int | None = None) -> Kind:
    """An integer of at least `low` and at most `high`; 3e4, 30000.0 and "30000" are integers too."""

    def read(value: Any) -> int:
        result = int(value) if isinstance(value, int) else _plain_number(value)
        if isinstance(value, bool) or result != int(result) or result < low or (high is not None and result > high):
            raise ValueError("not an integer in the range")
        return int(result)

    return Kind(f"an integer >= {low}" if high is None else f"an integer in {low}..{high}", read)


def number(low: float | None = None, above: float | None = None, below: float | None = None) -> Kind:
    """A finite number, `>= low`, `> above` and `< below` where those are given."""
    bounds = [f"{sign} {bound:g}" for sign, bound in ((">=", low), (">", above), ("<", below)) if bound is not None]

    def read(value: Any) -> float:
        result = _plain_number(value)
        if (low is not None and result < low) or (above is not None and result <= above):
            raise ValueError("too small")
        if below is not None and result >= below:
            raise ValueError("too large")
        return result

    return Kind(" ".join(["a number", " and ".join(bounds)]).strip(), read)


def optional(kind: Kind, word: str = "") -> Kind:
    """`kind`, or an empty value, which reads as None; `word`, if given, reads as None, too."""
    nothing = (None, "", word)
    expected = f"{kind.expected}, or {word or 'nothing'}"
    return Kind(expected, lambda value: None if value in nothing else kind.read(value), kind.options)


def name_of(what: str, names: Callable[[], Iterable[str]], prefix: str = "") -> Kind:
    """A name of a table, or `prefix` and any name. `names` returns the table's names; `what` describes them."""

    def read(value: Any) -> str:
        if isinstance(value, str) and prefix and value.startswith(prefix) and len(value) > len(prefix):
            return value
        known = tuple(names())
        if value not in known:
            other = f" or {prefix}<name>" if prefix else ""
            raise NoSuchName(f"one of {', '.join(known)}{other}", known)
        return value

    return Kind(what, read)


def sequence(kind: Kind, form: str, length: int | None = None, least: int = 0) -> Kind:
    """A list of `kind`: a YAML list, "a,b" or "[a, b]", or one value; `form` describes it in errors."""

    def read(value: Any) -> list[Any]:
        if isinstance(value, str):
            inside = value.strip().lstrip("[(").rstrip(")]")
            value = [part.strip() for part in inside.split(",")] if inside.strip() else []
        items = [] if value is None else list(value) if isinstance(value, (list, tuple)) else [value]
        if len(items) < least or (length is not None and len(items) != length):
            raise ValueError("wrong length")
        return [kind.read(item) for item in items]

    return Kind(f"{form}, each {kind.expected}", read)


def choice(*options: str, aliases: dict[Any, str] | None = None) -> Kind:
    """One of a few words; `aliases` maps what YAML makes of a bare word (None, False) back to it."""

    def read(value: Any) -> str:
        if not isinstance(value, str) and aliases:
            value = aliases.get(value, value)
        if value not in options:
            raise ValueError("no such option")
        return value

    return Kind("one of " + ", ".join(options), read, options=options)


def pair(low: int) -> Kind:
    """`[h, w]`."""
    return sequence(integer(low), "[h, w]", length=2)


def _read_boolean(value: Any) -> bool:
    if isinstance(value, str):  # quoted, or a YAML 1.2 writer's spelling
        value = {"true": True, "false": False}.get(value.lower(), value)
    if not isinstance(value, bool):
        raise TypeError("not a truth value")
    return value


def _read_text(value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise TypeError("not a text")
    return value


def _read_dataset(value: Any) -> str:
    name = _read_text(value)
    if not name or any(name != known and name.lower() == known.lower() for known in KNOWN_DATASETS):
        raise ValueError("a known name in another spelling would silently be custom data")
    return name


def _read_gpus(value: Any) -> str:
    indexes = sequence(integer(0), "").read(value)
    return ",".join(str(index) for index in indexes)


KNOWN_DATASETS = tuple(KNOWN_CLASSES)
BOOLEAN = Kind("true or false", _read_boolean)
PATH = Kind("a path (text) or nothing", _read_text, textual=True)
DATASET = Kind("VOC2012, Densepose or your own data's name", _read_dataset, options=KNOWN_DATASETS, textual=True)
TEXT = Kind("a text", _read_text, textual=True)
GPUS = Kind('GPU indexes as in "0,1,2,3", or nothing', _read_gpus)
NAMES = sequence(TEXT, "a list")
