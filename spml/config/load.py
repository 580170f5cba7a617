"""Settings of an experiment, read strictly from YAML files, their bases and `key=value` overrides.

`spml.config.keys` defines the keys. The tree that `load_config` returns is complete, so readers need no fallback, and
plain, so that a file beside the snapshots can save it and give it back unchanged.
"""

import copy
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml
from easydict import EasyDict

from spml.classes import read_class_names
from spml.config import released, tables
from spml.config.contradictions import contradictions
from spml.config.errors import ConfigError, show
from spml.config.keys import EXPECTED, KEYS, SECTIONS, Expected
from spml.config.layers import Layer, read_layers, read_overrides
from spml.config.losses import Losses
from spml.config.settings import defaults_of
from spml.config.shipped import find_shipped
from spml.errors import UserError
from spml.files import write_atomically

# network.prediction_types -> train.task
TASK_OF = {"segsort": "spml", "softmax_classifier": "classifier", "cam": "cam", "seam": "seam"}
PREDICTION_OF = {task: kind for kind, task in TASK_OF.items()}


class _Values:
    """The settings except losses: the value of each key, and the layer that sets it."""

    def __init__(self, layers: Sequence[Layer]) -> None:
        self.value = {name: copy.deepcopy(key.default) for name, key in KEYS.items()}
        self.rank: dict[str, int] = {}
        self.layers = layers
        for index, layer in enumerate(layers):
            self.value |= layer.values
            self.rank |= dict.fromkeys(layer.values, index)

    def rank_of(self, name: str) -> int:
        """The number of the layer that set a key; -1 for the defaults."""
        return self.rank.get(name, -1)

    def source(self, name: str) -> str:
        """The name of that layer."""
        return self.layers[self.rank[name]].name if name in self.rank else "the defaults"

    def error(self, name: str, expected: str) -> ConfigError:
        """The error for a key that should have another value."""
        return ConfigError(f"{name}: expected {expected}, got {show(self.value.get(name))}, in {self.source(name)}")


def load_config(path: str | os.PathLike[str] | None = None, overrides: Iterable[str] = ()) -> EasyDict:
    """Read a config: the defaults, overridden by the bases of a file, by the file, and by `overrides`; then check it.

    Args:
        path: YAML file, or the name of a shipped config. `base: other.yaml` in it names the config that it changes: a
            file beside it, or a shipped config. None: defaults only.
        overrides: `section.key=value` each, the value in YAML.

    Returns:
        An EasyDict with the keys outside of sections; the sections `dataset`, `network`, `train`, `losses` and `test`;
        a section named after the task, if it has settings; and `expected`, None unless the file itself has it.
        `losses` has the losses that are on, each with all of its settings: those that files and overrides name, or the
        released recipe if they name none and the task is spml. `train.task` always has a value. With `dataset.classes`,
        `dataset.class_names` holds the file's lines and `dataset.num_classes` their number. If no source sets
        `network.pixel_means` and `.pixel_stds`, they come from the backbone's weights; so they do where a later source
        names another backbone than the one that inherited values fit. An inherited warm-up longer than
        the run, or an inherited stride larger than the test crop, is cut; within one source it is an error.

    Raises:
        ConfigError: unknown key, wrong kind of value, values that contradict each other, unreadable file.
    """
    layers = read_layers(_config_path(path)) if path is not None else []
    files = len(layers)
    layers.append(read_overrides([overrides] if isinstance(overrides, str) else overrides))
    values = _Values(layers)
    task = _choose_task(values)
    _read_classes(values)
    _fill_normalisation(values)
    for name, limit in (("train.warmup_iteration", "train.max_iteration"), ("test.stride", "test.crop_size")):
        if values.rank_of(name) < values.rank_of(limit):
            values.value[name] = _at_most(values.value[name], values.value[limit])
    losses = _merge_losses(layers, files, task)
    config = EasyDict(_tree(values, task, losses, _expected(layers[max(0, files - 1) :])))
    for name, expected in contradictions(config):
        raise _loss_error(losses, name, expected) if name.startswith("losses.") else values.error(name, expected)
    return config


def save_config(config: EasyDict, path: str | os.PathLike[str]) -> None:
    """Write `config` as YAML, atomically; `load_config(path)` returns an equal one."""
    text = yaml.safe_dump(plain(config), sort_keys=False, allow_unicode=True)
    write_atomically(Path(path), lambda file: file.write(text.encode("utf-8")))


def plain(value: Any) -> Any:
    """A config as plain dicts, lists and numbers."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def _config_path(path: str | os.PathLike[str]) -> Path:
    given = Path(path)
    return given if given.is_file() else find_shipped(given.as_posix()) or given


def _tree(values: _Values, task: str, losses: Losses, expected: dict[str, Any] | None) -> dict[str, Any]:
    """All settings by section, with the section of this task and without those of other tasks."""
    tree: dict[str, Any] = {name: value for name, value in values.value.items() if name in KEYS and "." not in name}
    for section in SECTIONS:
        tree[section] = {name.partition(".")[2]: values.value[name] for name in KEYS if name.startswith(f"{section}.")}
    tree["losses"] = losses.tree()
    own = tables.tasks()[task]
    if own is not None:
        tree[task] = {name: values.value.get(f"{task}.{name}", default) for name, default in defaults_of(own).items()}
    return {**tree, "expected": expected}


def _choose_task(values: _Values) -> str:
    """Fill in train.task by network.prediction_types, or the reverse; the one of the later layer counts.

    Raises:
        ConfigError: one layer sets both, and they contradict each other.
    """
    task, kind = values.value["train.task"], values.value["network.prediction_types"]
    given, kind_given = values.rank_of("train.task"), values.rank_of("network.prediction_types")
    if task is None or kind_given > given:
        task = TASK_OF[kind]
    elif kind != PREDICTION_OF.get(task, kind):
        if kind_given == given:
            raise values.error("train.task", f"{TASK_OF[kind]}, because network.prediction_types is {kind}")
        values.value["network.prediction_types"] = PREDICTION_OF[task]
    values.value["train.task"] = task
    return task


def _merge_losses(layers: Sequence[Layer], files: int, task: str) -> Losses:
    """Collect the settings of losses from all layers; the first `files` layers are files, the last is the overrides.

    Files in the nested form list what is on. Older flat keys start from the released recipe, and so does a config
    whose files name no loss, if its task is spml.
    """
    losses = Losses()
    changes = [change for layer in layers for change in layer.losses]
    named_by_file = any(layer.losses for layer in layers[:files])
    older = bool(changes) and changes[0].key in released.FLAT_KEYS
    if older or (task == "spml" and not named_by_file):
        released.start(losses)
    for change in changes:
        if change.key in released.FLAT_KEYS:
            released.apply(losses, change)
        else:
            losses.apply(change)
    return losses


def _loss_error(losses: Losses, name: str, expected: str) -> ConfigError:
    """The error for a setting of a loss. It names the key that set it, or an older key that can set it."""
    _, loss, setting = name.split(".")
    change = losses.said.get((loss, setting))
    short = next((short for short, known in released.RELATIONS.items() if known == loss), loss)
    key, where = (change.key, change.source) if change else (f"train.{short}_{setting}", "the defaults")
    return ConfigError(f"{key}: expected {expected}, got {show(losses.settings[loss][setting])}, in {where}")


def _expected(layers: Sequence[Layer]) -> dict[str, Any] | None:
    """The section `expected` of the file itself, with overrides. Those of its bases do not count."""
    figure: dict[str, Any] | None = None
    for layer in layers:
        if "expected" in layer.values:
            figure = None
        said = {name.partition(".")[2]: layer.values[name] for name in EXPECTED if name in layer.values}
        if said:
            figure = {**(figure or defaults_of(Expected)), **said}
    return figure


def _fill_normalisation(values: _Values) -> None:
    """Set `pixel_means` and `pixel_stds` to those of the backbone's weights if no source sets them.

    A saved config holds both. Where a later source names another backbone, those of the earlier one no longer count.
    """
    keys = ("network.pixel_means", "network.pixel_stds")
    rank = max(map(values.rank_of, keys))
    if -1 < rank < values.rank_of("network.backbone_types"):
        saved = _Values(values.layers[: rank + 1])
        if [values.value[key] for key in keys] == list(_normalisation(saved)):
            values.value |= dict.fromkeys(keys)
    if all(values.value[key] is not None for key in keys):
        return
    for key, own in zip(keys, _normalisation(values), strict=True):
        values.value[key] = own if values.value[key] is None else values.value[key]


def _normalisation(values: _Values) -> tuple[list[float], list[float]]:
    """Mean and deviation that the backbone's weights expect."""
    try:
        return tables.normalisation(values.value["network.backbone_types"], values.value["network.pretrained"])
    except UserError as error:
        raise ConfigError(str(error)) from error


def _at_most(value: Any, limit: Any) -> Any:
    return [min(pair) for pair in zip(value, limit, strict=True)] if isinstance(value, list) else min(value, limit)


def _read_classes(values: _Values) -> None:
    """Fill in `class_names` and `num_classes`. A saved config keeps its names even if the file no longer exists."""
    path = values.value["dataset.classes"]
    if not path:
        return
    folder = values.layers[values.rank["dataset.classes"]].folder
    found = [Path(path), *([folder / path] if folder else [])]
    found = [place for place in found if place.is_file()]
    names = values.value["dataset.class_names"]
    if found or not names:
        try:
            names = list(read_class_names((found or [Path(path)])[0]))
        except UserError as error:
            raise ConfigError(f"dataset.classes: {error}, in {values.source('dataset.classes')}") from error
        values.value |= {"dataset.classes": str((found or [path])[0]), "dataset.class_names": names}
    if values.rank_of("dataset.num_classes") < values.rank_of("dataset.classes"):
        values.value["dataset.num_classes"] = len(names)
    elif values.value["dataset.num_classes"] != len(names):
        raise values.error("dataset.num_classes", f"{len(names)}, the names in {values.value['dataset.classes']}")
