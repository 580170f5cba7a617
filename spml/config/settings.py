"""Settings as dataclass fields: a section of a config, or a loss, is a dataclass whose fields define their values."""

import copy
from dataclasses import dataclass, field, fields
from typing import Any

from spml.config.kinds import Kind


@dataclass(frozen=True)
class Key:
    """One setting: its default, the kind of its value, and its meaning."""

    default: Any
    kind: Kind
    help: str


def setting(default: Any, kind: Kind, help: str) -> Any:
    """A dataclass field with its default, the kind of value it takes and one line on what it means."""
    key = Key(default, kind, help)
    return field(default_factory=lambda: copy.deepcopy(default), metadata={"key": key})


def keys_of(settings: type) -> dict[str, Key]:
    """The settings of a dataclass, by name, in their order."""
    return {one.name: one.metadata["key"] for one in fields(settings)}


def defaults_of(settings: type) -> dict[str, Any]:
    """The default of each setting, by name; lists are copies."""
    return {name: copy.deepcopy(key.default) for name, key in keys_of(settings).items()}
