"""What every command line shares: one clear line for a user's mistake, a traceback only for a bug."""

import sys
from collections.abc import Callable


class UserError(Exception):
    """Input that the user can mend. The message says what, where and what was expected, in one line."""


def run(main: Callable[[], int | None]) -> None:
    """Call `main` and exit with its status: 0 for None, 1 with `error: ...` for a UserError, 130 for Ctrl-C."""
    try:
        status = main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        status = 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        status = 130
    except BrokenPipeError:  # the reader of our standard output went away, as in `| head`
        sys.stderr.close()
        status = 1
    sys.exit(status or 0)
