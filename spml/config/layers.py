"""The settings of each source: a file, the files of its bases, the overrides. Later layers override earlier ones."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from spml.config import tables
from spml.config.check import checked, did_you_mean, find_key
from spml.config.errors import ConfigError, show
from spml.config.keys import SECTIONS
from spml.config.losses import NONE, Change, read_changes
from spml.config.released import FLAT_KEYS, RENAMED, filled
from spml.config.shipped import find_shipped, shipped_names
from spml.config.text import parse_yaml

_SECTIONS = (*SECTIONS, "losses", "expected")


@dataclass
class Layer:
    """Checked settings of one source: a file, or all overrides."""

    name: str
    folder: Path | None
    values: dict[str, Any] = field(default_factory=dict)  # `section.key` -> value
    losses: list[Change] = field(default_factory=list)

    def take(self, name: str, value: Any, where: str) -> None:
        """Check one setting and keep it."""
        if name.partition(".")[0] == "losses":
            self.losses += read_changes(name, value, where, self.name)
        elif name in FLAT_KEYS:
            self.losses.append(Change(name, checked(name, value, where), self.name))
        elif name == "expected" and value in NONE:
            self.values[name] = None
        else:
            self.values[RENAMED.get(name, name)] = checked(name, value, where)


def read_layers(path: Path, above: tuple[Path, ...] = ()) -> list[Layer]:
    """The layers of a file, those of its bases first. `above` are the files that led here.

    Raises:
        ConfigError: an unreadable file, a circle of bases, a setting that cannot be.
    """
    chain = (*above, path.resolve())
    if path.resolve() in above:
        raise ConfigError(f"base: expected a chain that ends, got a circle: {' -> '.join(map(str, chain))}")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        named = f", named as base in {above[-1]}" if above else ""
        reason = getattr(error, "strerror", None) or error
        hint = did_you_mean(path.stem, shipped_names(), 0.6) if isinstance(error, FileNotFoundError) else ""
        raise ConfigError(f"config {path}{named}: expected a readable text file, got: {reason}{hint}") from error
    tree = parse_yaml(text, str(path))
    if not isinstance(tree, dict | None):
        raise ConfigError(f"{path}: expected sections such as `train:` with keys, got {show(tree)}")
    tree = dict(tree or {})
    base = tree.pop("base", None)
    if base is not None and not isinstance(base, str):
        raise ConfigError(f"base: expected the path of a YAML file, got {show(base)}, in {path}")
    layer = Layer(str(path), path.parent)
    for name, value in filled(dict(_flatten(tree, layer.name))).items():
        layer.take(name, value, f"in {path}")
    flat = next((change.key for change in layer.losses if change.key in FLAT_KEYS), None)
    if flat and any(change.key not in FLAT_KEYS for change in layer.losses):
        raise ConfigError(f"{flat}: expected all losses of a file under `losses:`, got both forms, in {path}")
    return [*(read_layers(_base_path(path, base), chain) if base else []), layer]


def _base_path(path: Path, base: str) -> Path:
    """The file beside `path`, or the shipped config of that name. If a file names itself, it means the shipped one."""
    beside = path.parent / base
    shipped = find_shipped(base)
    if shipped and (not beside.is_file() or (beside.samefile(path) and not shipped.samefile(path))):
        return shipped
    return beside


def _flatten(tree: dict[Any, Any], where: str) -> Iterator[tuple[str, Any]]:
    """Yield (`section.key`, value) of each setting; sections must exist and hold keys. `losses` stays whole."""
    for label, value in tree.items():
        name = str(label)  # YAML reads off: as False
        section, dot, key = name.partition(".")
        if dot and section in _SECTIONS:
            raise ConfigError(f"{name}: expected `{key}` inside a section `{section}:`, got a dotted key, in {where}")
        if name == "losses" or (name == "expected" and value in NONE):
            yield name, value
        elif name in _SECTIONS and not isinstance(value, dict | None):
            raise ConfigError(f"{name}: expected a section with keys, got {show(value)}, in {where}")
        elif name in _SECTIONS or (isinstance(value, dict) and value and find_key(name) is None):  # or one misspelt
            yield from ((f"{name}.{leaf}", item) for leaf, item in (value or {}).items())
        elif value or find_key(name) or name not in tables.tasks():  # an empty section of a task says nothing
            yield name, value


def read_overrides(overrides: Iterable[str]) -> Layer:
    """The layer of `section.key=value`, each value in YAML.

    Raises:
        ConfigError: see `Layer.take`; a word without key or value.
    """
    layer = Layer("the overrides", None)
    for override in overrides:
        name, equals, raw = (part.strip() for part in str(override).partition("="))
        if not equals or not name:
            raise ConfigError(f"override {override!r}: expected section.key=value, as in train.max_iteration=100")
        where = f"override {override!r}"
        key = find_key(name)
        textual = key is not None and key.kind.textual and raw[:1] not in ("'", '"') and raw not in ("", "~", "null")
        layer.take(name, raw if textual else parse_yaml(raw, where), f"in {where}")
    return layer
