"""Reads a command line: suggests the nearest option for a misspelt one, and accepts `key=value` at the end."""

import argparse
import difflib
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

OVERRIDES = "Any key of the config can be overridden at the end: train.max_iteration=100 test.image_size=640"


class Parser(argparse.ArgumentParser):
    """An ArgumentParser without abbreviated options, whose help has only defaults that say something.

    `read` adds to the options `overrides`, the words `key=value` that may follow where `takes_overrides` is set, and
    `error`, which ends with status 2 and a line for options that contradict each other.
    """

    def __init__(self, prog: str | None = None, description: str | None = None) -> None:
        super().__init__(prog=prog, description=description, allow_abbrev=False, formatter_class=_Formatter)
        self.takes_overrides = False

    def read(self, words: Sequence[str]) -> argparse.Namespace:
        """The options of a command line; exits with status 2 for an unknown word."""
        self._check_options(words)
        args, rest = self.parse_known_args(list(words))
        for word in rest:
            if not self.takes_overrides or word.startswith("-") or "=" not in word:
                hint = "; overrides of the config are written key=value" if self.takes_overrides else ""
                self.error(f"unknown argument {word!r}{hint}")
        for action in self._actions:  # an empty variable of a shell
            if action.type is None and action.default != "" and getattr(args, action.dest, None) == "":
                self.error(f"argument {'/'.join(action.option_strings) or action.dest}: expected a name, got nothing")
        args.overrides, args.error = rest, self.error
        return args

    def error(self, message: str) -> NoReturn:
        """Exit with status 2 and one line, as for other mistakes; argparse would print the usage, too."""
        self.exit(2, f"error: {message}; `{self.prog} --help` explains the options\n")

    def _check_options(self, words: Sequence[str]) -> None:
        """Check for misspelt options before missing ones: a mistyped `--cfg_path` should not be called missing."""
        known = [option for action in self._actions for option in action.option_strings]
        for word in words:
            name = word.partition("=")[0]
            if word == "--":
                return
            if name.startswith("--") and name not in known:
                nearest = difflib.get_close_matches(name, known, n=1)
                self.error(f"unknown option {name}{f'; did you mean {nearest[0]}?' if nearest else ''}")


class _Formatter(argparse.HelpFormatter):
    """Help with the default of each option, if that says something."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        silent = action.default in (None, False, argparse.SUPPRESS) or action.default == [] or action.required
        return action.help if silent else f"{action.help} (default: %(default)s)"


def _split(text: str, kind: Callable[[str], Any]) -> list[Any]:
    """The numbers between commas; none where one is no number."""
    try:
        return [kind(part) for part in text.split(",")]
    except ValueError:
        return []


def natural(text: str) -> int:
    """A whole number of at least 0. This function and those below are argparse types."""
    values = _split(text, int)
    if len(values) != 1 or values[0] < 0:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 0, got {text!r}")
    return values[0]


def positive(text: str) -> int:
    """A whole number of at least 1."""
    values = _split(text, int)
    if len(values) != 1 or values[0] < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text!r}")
    return values[0]


def class_or_none(text: str) -> int | None:
    """The index of a class, or `none`."""
    return None if text == "none" else natural(text)


def number_list(text: str) -> list[float]:
    """`0.5,1,1.5` as numbers above zero."""
    values = _split(text, float)
    if not values or not all(0 < value < float("inf") for value in values):
        raise argparse.ArgumentTypeError(f"expected numbers above 0 separated by commas, got {text!r}")
    return values


def integer_pair(text: str) -> list[int]:
    """`H,W` as two whole numbers of at least 1."""
    values = _split(text, int)
    if len(values) != 2 or min(values) < 1:
        raise argparse.ArgumentTypeError(f"expected H,W, two whole numbers of at least 1, got {text!r}")
    return values


def seed_list(text: str) -> list[int]:
    """`0,1,2` as different whole numbers of at least 0."""
    values = _split(text, int)
    if not values or min(values) < 0 or len(set(values)) < len(values):
        raise argparse.ArgumentTypeError(f"expected different whole numbers separated by commas, got {text!r}")
    return values


def name_list(text: str) -> list[str]:
    """`a,b` as words."""
    return [part.strip() for part in text.split(",") if part.strip()]


def word_list(text: str) -> list[str]:
    """`"a b"` as words."""
    return text.split()


def named(text: str) -> tuple[str, str]:
    """`NAME=PATH` as a pair."""
    name, equals, path = text.partition("=")
    if not name or not equals or not path:
        raise argparse.ArgumentTypeError(f"expected NAME=PATH, got {text!r}")
    return name, path
