"""The error for a user's mistake. This file imports nothing of the project."""

INTERRUPTED = 130  # exit status after Ctrl-C, as shells have it


class UserError(Exception):
    """A mistake that the user can correct. Its message is one line: what is wrong, where, and what was expected."""
