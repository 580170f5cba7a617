"""The methods that `spml compare` knows: what each changes in a config, and a small grid of settings to choose from."""

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from spml import losses
from spml.config import load_config
from spml.config.text import parse_yaml
from spml.errors import UserError

LABELS = ("weak", "spread", "masks")  # what a method trains on: the annotation, labels spread from it, or full masks
# What may differ between methods. All else (network, data, crops, steps, test settings) is the same for all.
FREE = (
    *("task", "base_lr", "lr_policy", "decay_iterations", "warmup_iteration", "weight_decay", "momentum"),
    *("memory_bank_size", "classifier_gradient"),
)
RELEASED_CROP = 513  # of the dense-CRF losses' weights and ranges
MOST_OF_A_NAME = 60

Setting = tuple[str, ...]  # overrides, `key=value` or `key*=factor`


@dataclass(frozen=True)
class Method:
    """A method of a comparison.

    Args:
        help: one line.
        overrides: `key=value` each, after those of the user.
        grid: settings to choose from, the first is the default. A word `key*=factor` multiplies the config's own value.
        labels: what it trains on, out of LABELS.
        by_crop: settings that are given for a crop of 513 pixels a side, with the power of the ratio of areas that
            brings them to the config's crop: a range in pixels goes with the side, 1/2, and the weight of an energy
            over all pairs of pixels against the square of the pixels, -2.
        added, without: losses that `overrides` switch on, and off; the config must be without the first and have the
            others.
    """

    help: str = ""
    overrides: Setting = ()
    grid: tuple[Setting, ...] = ((),)
    labels: str = "weak"
    by_crop: tuple[tuple[str, float], ...] = ()
    added: tuple[str, ...] = ()
    without: tuple[str, ...] = ()

    def configure(self, path: str | Path, overrides: Sequence[str], setting: Setting, own: Sequence[str] = ()) -> Any:
        """The config of a run. `own`: overrides of this run, such as its seed and lists.

        Raises:
            UserError: a config that cannot be used; a setting that another method would not have, such as more steps.
        """
        words = [*overrides, *self.overrides]
        config = load_config(path, words)
        self._check_losses(path, words)
        height, width = config.train.crop_size
        ratio = height * width / RELEASED_CROP**2
        scaled = [multiplied(config, f"{key}*={ratio**power!r}") for key, power in self.by_crop]
        config = load_config(path, [*words, *scaled])
        words += [*scaled, *(multiplied(config, word) for word in setting)]
        _check_same(load_config(path, overrides), load_config(path, words))
        return load_config(path, [*words, *own])

    def _check_losses(self, path: str | Path, words: Sequence[str]) -> None:
        """Raise UserError for a loss that is added to itself, or taken away where it is not."""
        switches = [f"losses.{loss}={{}}" for loss in self.added] + [f"losses.{loss}=none" for loss in self.without]
        had = load_config(path, [word for word in words if word not in switches]).losses
        for loss in (*self.added, *self.without):
            if (loss in had) == (loss in self.added) or self.added.count(loss) > 1:
                told = "has the loss already" if loss in self.added else "has no such loss to take away"
                raise UserError(f"--methods: {loss}: the method {told}; without this change it has {', '.join(had)}")


def multiplied(config: Any, word: str) -> str:
    """`key*=2` as `key=value` with twice the value that the config has; any other word as it is.

    Raises:
        UserError: the config has no such key, or no number there.
    """
    key, times, factor = word.partition("*=")
    if not times:
        return word
    value: Any = config
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    try:
        return f"{key}={float(value) * float(factor):.6g}"
    except (TypeError, ValueError):
        raise UserError(f"{word}: expected a number times the config's {key}, which is {value!r}") from None


def described(setting: Setting) -> str:
    """A setting in words: `base_lr*=2`, or `default`."""
    return " ".join(word.removeprefix("train.").removeprefix("losses.") for word in setting) or "default"


def _check_same(plain: Any, found: Any) -> None:
    """Raise UserError where a method changes what all methods share."""
    for section in ("dataset", "network", "train", "test"):
        for key, value in found[section].items():
            free = key in FREE if section == "train" else key == "prediction_types"
            if not free and value != plain[section][key]:
                raise UserError(
                    f"{section}.{key}={value}: expected {plain[section][key]} as without the method: the network, "
                    "data, crops, steps and test settings of a comparison are the same for all methods"
                )


CROSS_ENTROPY = ("train.task=segmentation", "losses=none", "losses.cross_entropy.weight=1")
RATES: tuple[Setting, ...] = ((), ("train.base_lr*=2",), ("train.base_lr*=0.5",), ("train.base_lr*=4",))
BY_CROP: dict[str, tuple[tuple[str, float], ...]] = {
    "dense_crf": (("losses.dense_crf.weight", -2), ("losses.dense_crf.sigma_xy", 0.5)),
    "normalised_cut": (("losses.normalised_cut.sigma_xy", 0.5),),
    "kernel_cut": (("losses.kernel_cut.crf_weight", -2), ("losses.kernel_cut.sigma_xy", 0.5)),
}


def weights(loss: str, *factors: float) -> tuple[Setting, ...]:
    """Settings that multiply the weight of a loss; the first is the default."""
    return ((), *((f"losses.{loss}.weight*={factor:g}",) for factor in factors))


def with_loss(method: Method, loss: str) -> Method:
    """A method and one more loss of the table, whose weight is what is chosen."""
    return replace(
        method,
        help=f"{method.help}; and the loss {loss}",
        overrides=(*method.overrides, f"losses.{loss}={{}}"),
        grid=weights(loss, 0.3, 3, 10),
        by_crop=(*method.by_crop, *BY_CROP.get(loss, ())),
        added=(*method.added, loss),
    )


PARTIAL = Method("cross-entropy on the annotated pixels, the baseline", CROSS_ENTROPY, RATES)
SPML = Method(
    "the losses of the config",
    grid=(
        (),
        ("losses.image_similarity.weight*=0.3",),
        ("losses.semantic_annotation.weight*=0.3",),
        ("train.base_lr*=2",),
    ),
)
REGULARISERS = ("entropy", "neighbour", "gated_crf", "dense_crf", "normalised_cut", "kernel_cut", "tree_energy")
METHODS: dict[str, Method] = {
    "spml": SPML,
    "partial_cross_entropy": PARTIAL,
    **{loss: with_loss(PARTIAL, loss) for loss in (*REGULARISERS, "gaussian_mixture")},
    "spread_then_ce": Method("cross-entropy on labels that frozen features spread", CROSS_ENTROPY, RATES, "spread"),
    "spml_on_spread": replace(
        SPML, help="the losses of the config on labels that frozen features spread", labels="spread"
    ),
    "full_masks": Method("cross-entropy on the full masks of --masks", CROSS_ENTROPY, RATES, "masks"),
}
DEFAULT = ("spml", "partial_cross_entropy")
SUMS = "METHOD+LOSS adds a loss to a method, METHOD-LOSS takes one away: spml+gated_crf, spml-image_similarity"


def find_methods(names: Iterable[str], tries: int = 1, own: Mapping[str, Method] | None = None) -> dict[str, Method]:
    """The methods called `names`, in that order; `own`: more methods, as `read_methods` returns them.

    `METHOD+LOSS` adds a loss of the table to a method, and `METHOD-LOSS` switches one off.

    Raises:
        UserError: an unknown name, with the nearest one; a name twice; no name; a method with fewer than `tries`
            settings.
    """
    known = {**METHODS, **(own or {})}
    found: dict[str, Method] = {}
    for name in names:
        if name in found:
            raise UserError(f"--methods: {name!r} stands twice")
        found[name] = _find(name, known)
    if not found:
        raise UserError(f"--methods: expected one or more of {', '.join(known)}")
    short = [f"{name} ({len(method.grid)})" for name, method in found.items() if len(method.grid) < tries]
    if short:
        raise UserError(
            f"--tries: every method gets the same number of tried settings: expected at most the settings of each "
            f"method, got {tries}; fewer have: {', '.join(short)}"
        )
    return found


def _find(name: str, known: Mapping[str, Method]) -> Method:
    if name in known:
        return known[name]
    first, *rest = re.split(r"([+-])", name)
    if first not in known:
        raise _unknown("method", first, known)
    method = known[first]
    for sign, loss in zip(rest[::2], rest[1::2], strict=True):
        if loss not in losses.TABLE:
            raise _unknown("loss", loss, losses.TABLE)
        if sign == "+":
            method = with_loss(method, loss)
        else:
            help, overrides = f"{method.help}, without {loss}", (*method.overrides, f"losses.{loss}=none")
            method = replace(method, help=help, overrides=overrides, grid=RATES, without=(*method.without, loss))
    return method


def _unknown(what: str, name: str, known: Iterable[str]) -> UserError:
    names = list(known)
    nearest = difflib.get_close_matches(name, names, n=1, cutoff=0.0)[0]
    return UserError(f"--methods: unknown {what} {name!r}; did you mean {nearest!r}? There are {', '.join(names)}")


def read_methods(path: str | Path) -> dict[str, Method]:
    """Read a user's methods from YAML: `name: {overrides: [..], grid: [[..], ..], labels: weak, help: text}`.

    All keys are optional. The first entry of a grid is the default; left out, the grid is `[[]]`.

    Raises:
        UserError: a file that cannot be read, another form, or a name that the table has.
    """
    try:
        content = parse_yaml(Path(path).read_text(encoding="utf-8"), str(path))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    if not isinstance(content, dict) or not content:
        raise UserError(f"{path}: expected `name: {{overrides: [..], grid: [[..], ..]}}` for each method")
    return {str(name): _read_method(f"{path}: {name}", str(name), entry) for name, entry in content.items()}


def _read_method(where: str, name: str, entry: Any) -> Method:
    if name in METHODS or not re.fullmatch(r"\w+", name) or len(name) > MOST_OF_A_NAME:
        raise UserError(
            f"{where}: expected another name, of letters, digits and _, that is none of {', '.join(METHODS)}"
        )
    entry = {} if entry is None else entry
    if not isinstance(entry, dict) or not set(entry) <= {"overrides", "grid", "labels", "help"}:
        raise UserError(f"{where}: expected some of overrides, grid, labels and help, got {entry!r}")
    grid = entry.get("grid", [[]])
    if not isinstance(grid, list) or not grid:
        raise UserError(f"{where}: grid: expected a list of lists of `key=value`, got {grid!r}")
    labels = entry.get("labels", "weak")
    if labels not in LABELS:
        raise UserError(f"{where}: labels: expected one of {', '.join(LABELS)}, got {labels!r}")
    settings = tuple(_words(f"{where}: grid", words) for words in grid)
    overrides = _words(f"{where}: overrides", entry.get("overrides", []))
    return Method(str(entry.get("help", "")), overrides, settings, labels)


def _words(where: str, words: Any) -> Setting:
    if not isinstance(words, list) or not all(isinstance(word, str) and "=" in word for word in words):
        raise UserError(f"{where}: expected a list of `key=value`, got {words!r}")
    return tuple(words)
