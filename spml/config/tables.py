"""The tables of losses, tasks, backbones and heads, for checking the names and settings of a config.

These tables lie above this package. So it imports them by name when a config first needs one: the one exception to the
rule that imports run downwards. It also keeps `import spml.config` light, because all of them need torch.
"""

import importlib
from collections.abc import Mapping
from typing import Any

from spml.config.settings import Key, keys_of


def losses() -> Mapping[str, Any]:
    """`spml.losses.TABLE`: name -> Loss."""
    return importlib.import_module("spml.losses").TABLE


def tasks() -> dict[str, type | None]:
    """Name -> the dataclass of its settings, None for a task without, of `spml.tasks.TABLE`."""
    table = importlib.import_module("spml.tasks").TABLE
    return {name: task.settings for name, task in table.items()}


def backbones() -> tuple[str, ...]:
    """The names of `spml.models.BACKBONES`."""
    return tuple(importlib.import_module("spml.models.registry").BACKBONES)


def heads() -> tuple[str, ...]:
    """The names of `spml.models.HEADS`."""
    return tuple(importlib.import_module("spml.models.registry").HEADS)


def normalisation(backbone: str, pretrained: str) -> tuple[list[float], list[float]]:
    """Mean and deviation of the images that a backbone's weights were trained with; see `spml.models.normalisation`."""
    return importlib.import_module("spml.models.pretrained").normalisation(backbone, pretrained)


def loss_keys() -> dict[str, Key]:
    """`losses.<loss>.<setting>` of every loss of the table."""
    return {f"losses.{name}.{key}": value for name, loss in losses().items() for key, value in _keys(loss.settings)}


def task_keys() -> dict[str, Key]:
    """`<task>.<setting>` of every task that has settings."""
    return {f"{name}.{key}": value for name, settings in tasks().items() for key, value in _keys(settings)}


def _keys(settings: type | None) -> list[tuple[str, Key]]:
    return list(keys_of(settings).items()) if settings else []
