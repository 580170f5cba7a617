"""The error of a user's mistake. Nothing of the project is imported here."""

INTERRUPTED = 130  # exit status after Ctrl-C, as shells have it


class UserError(Exception):
    """Input that the user can mend. The message says what, where and what was expected, in one line."""
