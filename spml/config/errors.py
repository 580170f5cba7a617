"""The error for a setting, and how it prints the value."""

import reprlib
from typing import Any

from spml.errors import UserError

_SHORT = reprlib.Repr()  # keeps messages short, and a file of nested aliases from filling the memory
_SHORT.maxstring = _SHORT.maxlong = _SHORT.maxother = 80
_SHORT.maxlevel = 2


class ConfigError(UserError):
    """An impossible setting. The message names the key, the expected value, the given value, and its place."""


def show(value: Any) -> str:
    """A value and its type, briefly: `5 (int)`."""
    return "nothing" if value is None else f"{_SHORT.repr(value)} ({type(value).__name__})"
