"""The error of a setting, and how it prints what it got."""

import reprlib
from typing import Any

from spml.errors import UserError

_SHORT = reprlib.Repr()  # keeps messages short, and a file of nested aliases from filling the memory
_SHORT.maxstring = _SHORT.maxlong = _SHORT.maxother = 80
_SHORT.maxlevel = 2


class ConfigError(UserError):
    """A setting that cannot be. The message names the key, what was expected, what came, and where."""


def show(value: Any) -> str:
    """A value and its type, briefly: `5 (int)`."""
    return "nothing" if value is None else f"{_SHORT.repr(value)} ({type(value).__name__})"
