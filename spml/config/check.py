"""Checks one setting: does the key exist, and can it have the value?"""

import difflib
from typing import Any

from spml.config import tables
from spml.config.errors import ConfigError, show
from spml.config.keys import EXPECTED, KEYS
from spml.config.kinds import MISREAD, NoSuchName
from spml.config.released import FLAT_KEYS, RENAMED
from spml.config.settings import Key


def find_key(name: str) -> Key | None:
    """The kind of value of `section.key`, from whichever dataclass or table defines it; None for an unknown key."""
    for known in (KEYS, FLAT_KEYS, EXPECTED):
        if name in known:
            return known[name]
    if "." not in name:
        return None
    return (tables.loss_keys() if name.startswith("losses.") else tables.task_keys()).get(RENAMED.get(name, name))


def checked(name: str, value: Any, where: str) -> Any:
    """Read a value by the kind of its key.

    Raises:
        ConfigError: no such key, or a value that it cannot have; `where` names the file or override.
    """
    key = find_key(name)
    if key is None:
        raise unknown(name, value, where)
    try:
        return key.kind.read(value)
    except MISREAD as error:
        kind = error if isinstance(error, NoSuchName) else key.kind
        hint = did_you_mean(str(value), kind.options, 0.5)
        raise ConfigError(f"{name}: expected {kind.expected}, got {show(value)}, {where}{hint}") from error


def unknown(name: str, value: Any, where: str) -> ConfigError:
    """The error for an unknown key, with the most similar known one."""
    losses = name.partition(".")[0] == "losses"
    known = "a loss of spml.losses.TABLE and its settings" if losses else "one that configs/base.yaml lists"
    return ConfigError(
        f"{name}: unknown key, expected {known}, got {show(value)}, {where}; did you mean {_nearest(name)}?"
    )


def did_you_mean(word: str, options: tuple[str, ...], cutoff: float) -> str:
    """`; did you mean x?` with the option most similar to `word`, in any case of letters; empty if none is similar."""
    close = difflib.get_close_matches(word.lower(), [option.lower() for option in options], n=1, cutoff=cutoff)
    spelt = [option for option in options if option.lower() in close]
    return f"; did you mean {spelt[0]}?" if spelt else ""


def _nearest(name: str) -> str:
    """The same key in another section, a similar key in its section, or the key most similar to `name`."""
    losses, settings = [f"losses.{loss}" for loss in tables.losses()], list(tables.loss_keys())
    if name.startswith("losses") or name.count(".") > 1:
        names = losses if name.count(".") == 1 else settings
        return difflib.get_close_matches(name, names, n=1, cutoff=0.0)[0]
    names = [*KEYS, *tables.task_keys(), *EXPECTED, *FLAT_KEYS, *losses, *settings]
    section, _, leaf = name.rpartition(".")
    elsewhere = [path for path in names if path.rpartition(".")[2] == leaf]
    inside = [path for path in names if section and path.startswith(f"{section}.")]
    close = [] if elsewhere else difflib.get_close_matches(name, inside, n=1, cutoff=0.75)
    return (close or difflib.get_close_matches(name, elsewhere or names, n=1, cutoff=0.0))[0]
