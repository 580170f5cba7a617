"""Settings of an experiment, read strictly from YAML files, their bases and `key=value` overrides.

What keys there are, `spml.config.keys` says. The tree that `load_config` returns is complete, so that nobody needs a
fallback, and plain, so that it is saved beside the snapshots and read back as it was.
"""

import copy
import difflib
import os
import reprlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from easydict import EasyDict

from spml.config.keys import KEYS, RELATIONS, SECTIONS, STAGE2_UNFILLED, UNFILLED
from spml.config.kinds import MISREAD
from spml.errors import UserError

_SHORT = reprlib.Repr()  # keeps messages short, and a file of nested aliases from filling the memory
_SHORT.maxstring = _SHORT.maxlong = _SHORT.maxother = 80
_SHORT.maxlevel = 2


class ConfigError(UserError):
    """A setting that cannot be. The message names the key, what was expected, what came, and where."""


@dataclass
class Layer:
    """Checked settings of one source: a file, or all overrides together."""

    name: str
    folder: Path | None
    values: dict[str, Any] = field(default_factory=dict)


def load_config(path: str | os.PathLike[str] | None = None, overrides: Iterable[str] = ()) -> EasyDict:
    """Defaults, under the file `path` and the files it is based on, under `overrides`; complete and checked.

    Args:
        path: YAML file; `base: other.yaml` in it (relative to it) names a file that goes before. None: defaults only.
        overrides: `section.key=value` each, the value in YAML.

    Returns:
        EasyDict of every key of `KEYS`. With `dataset.classes`, `dataset.class_names` holds the file's lines and
        `dataset.num_classes` their number. An inherited warm-up longer than the run and an inherited stride larger
        than the test crop are cut; where the same source says both, that is an error.

    Raises:
        ConfigError: unknown key, wrong kind of value, values that contradict each other, unreadable file.
    """
    layers = _read_file(Path(path), ()) if path is not None else []
    layers.append(_read_overrides([overrides] if isinstance(overrides, str) else overrides))
    values = {name: copy.deepcopy(key.default) for name, key in KEYS.items()}
    rank: dict[str, int] = {}
    origin: dict[str, Layer] = {}
    for index, layer in enumerate(layers):
        for name, value in layer.values.items():
            values[name], rank[name], origin[name] = value, index, layer
    _read_classes(values, origin)
    for name, limit in (("train.warmup_iteration", "train.max_iteration"), ("test.stride", "test.crop_size")):
        if rank.get(name, -1) < rank.get(limit, -1):
            values[name] = _at_most(values[name], values[limit])
    tree: dict[str, Any] = {}
    for name, value in values.items():
        section, _, leaf = name.rpartition(".")
        (tree.setdefault(section, {}) if section else tree)[leaf] = value
    config = EasyDict(tree)
    for name, expected in _contradictions(config):
        where = origin[name].name if name in origin else "the defaults"
        raise ConfigError(f"{name}: expected {expected}, got {_show(values[name])}, in {where}")
    return config


def _at_most(value: Any, limit: Any) -> Any:
    return [min(pair) for pair in zip(value, limit, strict=True)] if isinstance(value, list) else min(value, limit)


def save_config(config: EasyDict, path: str | os.PathLike[str]) -> None:
    """Write `config` as YAML, whole or not at all; `load_config(path)` gives an equal one."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(yaml.safe_dump(_plain(config), sort_keys=False, allow_unicode=True), encoding="utf-8")
    os.replace(temporary, path)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def _show(value: Any) -> str:
    return "nothing" if value is None else f"{_SHORT.repr(value)} ({type(value).__name__})"


class _Loader(yaml.SafeLoader):
    """Safe YAML that refuses a key given twice and reads a Python tuple, which old files hold, as a list."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """As the base class; raises ConstructorError for a key that stands twice."""
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key.value!r} stands twice", key.start_mark)
            seen.add(key.value if isinstance(key, yaml.ScalarNode) else None)
        return super().construct_mapping(node, deep)


def _tuple_as_list(loader: _Loader, node: yaml.SequenceNode) -> list[Any]:
    return loader.construct_sequence(node, deep=True)


_Loader.add_constructor("tag:yaml.org,2002:python/tuple", _tuple_as_list)


def _parse_yaml(text: str, where: str) -> Any:
    try:
        return yaml.load(text, _Loader)  # noqa: S506 - a SafeLoader
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise ConfigError(f"{where}{place}: expected YAML, got: {problem}") from error


def _read_file(path: Path, above: tuple[Path, ...]) -> list[Layer]:
    """The layers of a file, those of its bases first. `above` are the files that led here."""
    chain = (*above, path.resolve())
    if path.resolve() in above:
        raise ConfigError(f"base: expected a chain that ends, got a circle: {' -> '.join(map(str, chain))}")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        named = f", named as base in {above[-1]}" if above else ""
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"config {path}{named}: expected a readable text file, got: {reason}") from error
    tree = _parse_yaml(text, str(path))
    if not isinstance(tree, dict | None):
        raise ConfigError(f"{path}: expected sections such as `train:` with keys, got {_show(tree)}")
    tree = dict(tree or {})
    base = tree.pop("base", None)
    if base is not None and not isinstance(base, str):
        raise ConfigError(f"base: expected the path of a YAML file, got {_show(base)}, in {path}")
    layer = Layer(str(path), path.parent)
    flat = dict(_flatten(tree, layer.name))
    stage2 = flat.get("network.prediction_types") == "softmax_classifier"
    unfilled = {**UNFILLED, **(STAGE2_UNFILLED if stage2 else {})}
    for name, value in flat.items():
        if name not in unfilled or value != unfilled[name]:
            layer.values[name] = _checked(name, value, f"in {path}")
    return [*(_read_file(path.parent / base, chain) if base else []), layer]


def _flatten(tree: dict[Any, Any], where: str) -> Iterator[tuple[str, Any]]:
    """`section.key`, value of each setting; sections must be real and hold keys."""
    for name, value in tree.items():
        section, dot, key = str(name).partition(".")
        if dot and section in SECTIONS:
            raise ConfigError(f"{name}: expected `{key}` inside a section `{section}:`, got a dotted key, in {where}")
        if name in SECTIONS and not isinstance(value, dict | None):
            raise ConfigError(f"{name}: expected a section with keys, got {_show(value)}, in {where}")
        if name in SECTIONS or (isinstance(value, dict) and value and name not in KEYS):  # or a section misspelt
            yield from ((f"{name}.{leaf}", item) for leaf, item in (value or {}).items())
        else:
            yield str(name), value


def _checked(name: str, value: Any, where: str) -> Any:
    if name not in KEYS:
        raise ConfigError(
            f"{name}: unknown key, expected one that configs/base.yaml lists, got {_show(value)}, {where}; "
            f"did you mean {_nearest(name)}?"
        )
    kind = KEYS[name].kind
    try:
        return kind.read(value)
    except MISREAD as error:
        close = difflib.get_close_matches(
            str(value).lower(), [option.lower() for option in kind.options], n=1, cutoff=0.5
        )
        spelt = [option for option in kind.options if option.lower() in close]
        hint = f"; did you mean {spelt[0]}?" if spelt else ""
        raise ConfigError(f"{name}: expected {kind.expected}, got {_show(value)}, {where}{hint}") from error


def _nearest(name: str) -> str:
    """The real key that looks most like `name`: the same leaf elsewhere, a like leaf in its section, or any."""
    section, _, leaf = name.rpartition(".")
    elsewhere = [path for path in KEYS if path.rpartition(".")[2] == leaf]
    inside = [path for path in KEYS if section and path.startswith(f"{section}.")]
    close = difflib.get_close_matches(name, inside, n=1, cutoff=0.75)
    return (elsewhere or close or difflib.get_close_matches(name, KEYS, n=1, cutoff=0.0))[0]


def _read_overrides(overrides: Iterable[str]) -> Layer:
    layer = Layer("the overrides", None)
    for override in overrides:
        name, equals, raw = (part.strip() for part in str(override).partition("="))
        if not equals or not name:
            raise ConfigError(f"override {override!r}: expected section.key=value, as in train.max_iteration=100")
        where = f"override {override!r}"
        textual = (
            name in KEYS and KEYS[name].kind.textual and raw[:1] not in ("'", '"') and raw not in ("", "~", "null")
        )
        layer.values[name] = _checked(name, raw if textual else _parse_yaml(raw, where), f"in {where}")
    return layer


def _read_classes(values: dict[str, Any], origin: dict[str, Layer]) -> None:
    """Fill in `class_names` and `num_classes`. A saved config whose file has gone keeps the names it holds."""
    path = values["dataset.classes"]
    if not path:
        return
    layer = origin["dataset.classes"]
    found = [Path(path), *([layer.folder / path] if layer.folder else [])]
    found = [place for place in found if place.is_file()]
    if not found and values["dataset.class_names"]:
        values["dataset.num_classes"] = len(values["dataset.class_names"])
        return
    try:
        lines = (found or [Path(path)])[0].read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(
            f"dataset.classes: expected a text file of class names, got {path!r} ({reason}), in {layer.name}"
        ) from error
    names = [line.strip() for line in lines if line.strip()]
    if not 2 <= len(names) <= 254 or len(set(names)) < len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        got = f"{len(names)} names" + (f", {twice[0]!r} twice" if twice else "")
        raise ConfigError(f"dataset.classes: expected 2..254 different class names in {found[0]}, got {got}")
    values.update({"dataset.classes": str(found[0]), "dataset.class_names": names, "dataset.num_classes": len(names)})


def _contradictions(config: EasyDict) -> Iterator[tuple[str, str]]:
    """Key and what it should be, for each setting that others make impossible."""
    dataset, network, train, test = config.dataset, config.network, config.train, config.test
    if dataset.dataset == "Densepose" and not dataset.class_names and dataset.num_classes != 15:
        yield "dataset.num_classes", "15, the classes of Densepose (or a file dataset.classes)"
    if dataset.class_names and len(dataset.class_names) != dataset.num_classes:
        yield "dataset.num_classes", f"the number of dataset.class_names ({len(dataset.class_names)})"
    if dataset.unlabelled_index is not None and dataset.unlabelled_index < dataset.num_classes:
        yield "dataset.unlabelled_index", f"no class, so >= dataset.num_classes ({dataset.num_classes})"
    if train.begin_iteration >= train.max_iteration:
        yield "train.begin_iteration", f"less than train.max_iteration ({train.max_iteration})"
    if train.warmup_iteration > train.max_iteration:
        yield "train.warmup_iteration", f"at most train.max_iteration ({train.max_iteration})"
    if train.lr_policy == "step" and not train.decay_iterations:
        yield "train.decay_iterations", "at least one step, because train.lr_policy is step"
    if sorted(set(train.decay_iterations)) != train.decay_iterations:
        yield "train.decay_iterations", "steps that grow"
    if any(4 * grid > crop for grid, crop in zip(network.kmeans_num_clusters, train.crop_size, strict=True)):
        yield "network.kmeans_num_clusters", f"at most a quarter of train.crop_size ({train.crop_size})"
    if min(test.crop_size) == 0 < max(test.crop_size):
        yield "test.crop_size", "two sides of at least 1 pixel, or [0, 0] for whole views"
    if min(test.crop_size) > 0 and min(test.stride) == 0:
        yield "test.stride", "at least 1 pixel"
    if any(stride > crop for stride, crop in zip(test.stride, test.crop_size, strict=True)):
        yield "test.stride", f"at most test.crop_size ({test.crop_size}), or pixels are never seen"
    yield from _loss_contradictions(config)


def _loss_contradictions(config: EasyDict) -> Iterator[tuple[str, str]]:
    train = config.train
    active = [short for short in RELATIONS if train[f"{short}_loss_types"] != "none"]
    for short in active:
        if train[f"{short}_concentration"] == 0:
            yield f"train.{short}_concentration", f"a number > 0, because train.{short}_loss_types is segsort"
    if train.lent_cross_entropy_weight and "feat_aff" not in active:
        yield "train.lent_cross_entropy_weight", "0, because train.feat_aff_loss_types is none"
    cross_entropy = train.sem_ann_loss_weight if train.cross_entropy_weight is None else train.cross_entropy_weight
    weight = sum(train[f"{short}_loss_weight"] for short in active) + train.classifier_gradient * cross_entropy
    if weight == 0 and not config.network.pretrained:
        yield (
            "train.classifier_gradient",
            "true, or a loss with a weight, or network.pretrained: otherwise the embedding stays random",
        )
