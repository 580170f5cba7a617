"""Applies the changes of files and overrides, in order, to find which losses are on and their settings."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from spml.config import tables
from spml.config.check import checked, unknown
from spml.config.errors import ConfigError, show
from spml.config.settings import defaults_of

NONE = (None, "none")  # what removes a loss


@dataclass(frozen=True)
class Change:
    """One change that a source makes to the losses.

    Args:
        key: as the source has it: `losses`, `losses.<loss>`, `losses.<loss>.<setting>` or an older flat key.
        value: checked. None removes a loss, or all of them; {} switches one on with its defaults.
        source: the file, or "the overrides".
    """

    key: str
    value: Any
    source: str


def read_changes(key: str, value: Any, where: str, source: str) -> Iterator[Change]:
    """Check the value of `losses`, `losses.<loss>` or `losses.<loss>.<setting>`, and split it into single changes.

    Raises:
        ConfigError: an unknown loss or setting, or another kind of value.
    """
    depth = key.count(".")
    if depth == 2:
        yield Change(key, checked(key, value, where), source)
        return
    if depth > 2 or (depth == 1 and key.partition(".")[2] not in tables.losses()):
        raise unknown(key, value, where)
    if isinstance(value, dict):
        yield Change(key, {}, source)
        for name, item in value.items():
            if "." in str(name):
                raise ConfigError(f"{key}.{name}: expected settings inside `{key}:`, got a dotted key, {where}")
            yield from read_changes(f"{key}.{name}", item, where, source)
    elif value in NONE and not (depth == 0 and value is None):
        yield Change(key, None, source)
    else:
        form = "settings such as {weight: 1}" if depth else "losses by name, such as {cross_entropy: {weight: 1}}"
        raise ConfigError(f"{key}: expected {form}, or none, got {show(value)}, {where}")


class Losses:
    """The losses after the changes so far.

    `on` names those that are on. `settings` holds the settings that a change has set; `tree` completes them. `said`
    maps each (loss, setting) to its change. Older flat keys need two more: `silent` has the relations that their loss
    type switched off, which a weight does not switch on; `follows` says whether cross-entropy takes the weight of
    semantic annotation.
    """

    def __init__(self) -> None:
        self.on: set[str] = set()
        self.settings: dict[str, dict[str, Any]] = defaultdict(dict)
        self.said: dict[tuple[str, str], Change] = {}
        self.silent: set[str] = set()
        self.follows = False

    def put(self, loss: str, setting: str, change: Change) -> None:
        """Set one setting, of a loss that is on or off."""
        self.settings[loss][setting] = change.value
        self.said[loss, setting] = change

    def apply(self, change: Change) -> None:
        """Apply a change of the nested form."""
        if self.follows:  # from here on each weight is its own
            self.settings["cross_entropy"]["weight"] = self.followed()
            self.follows = False
        _, _, path = change.key.partition(".")
        loss, _, setting = path.partition(".")
        if change.value is None and not setting:
            for name in [loss] if loss else [*self.on, *self.settings]:
                self.on.discard(name)
                self.settings.pop(name, None)
        elif loss:
            self.on.add(loss)
        if setting:
            self.put(loss, setting, change)

    def followed(self) -> float:
        """The weight of cross-entropy that goes with semantic annotation."""
        return self.settings["semantic_annotation"].get("weight", 1.0)

    def tree(self) -> dict[str, dict[str, Any]]:
        """Name -> complete settings of each loss that is on, in the table's order."""
        if self.follows:
            self.settings["cross_entropy"]["weight"] = self.followed()
        return {
            name: {**defaults_of(loss.settings), **self.settings[name]}
            for name, loss in tables.losses().items()
            if name in self.on
        }
