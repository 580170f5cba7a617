"""How every command ends: one line for a mistake of the user, a traceback for a bug, one word for Ctrl-C.

This module imports nothing that takes time, and scripts import everything else inside `run`. So Ctrl-C during the
import of torch, which takes seconds, ends as it does later.
"""

import errno
import sys
import traceback
from collections.abc import Callable

from spml.errors import INTERRUPTED, UserError

TRACEBACK = "--traceback"
FULL_DISK = (errno.ENOSPC, errno.EDQUOT)
# What the machine refuses because of a path that the user gave. Without a path it is no mistake of the user.
REFUSED_PATHS = (
    *(errno.ENOENT, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST),
    *(errno.ENAMETOOLONG, errno.ELOOP),
)
LESS_MEMORY = "smaller train.batch_size, train.crop_size or test.crop_size, --max_pixels or train.amp=bf16 take less"


def run(main: Callable[[], int | None]) -> None:
    """Call `main` and exit with its status: 0 for None, 1 with `error: ..` for a UserError, 130 for Ctrl-C.

    Errors of the machine are one line, too: a path that cannot be read or written, a full disk, no GPU memory left. All
    other exceptions are bugs and pass through. With `--traceback` on the command line every error has its traceback.
    """
    try:
        status = main()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        status = INTERRUPTED
    except BrokenPipeError:  # the reader of our standard output went away, as in `| head`
        sys.stderr.close()
        status = 1
    except Exception as error:
        line = explain(error)
        if line is None:
            raise
        if TRACEBACK in sys.argv:
            traceback.print_exc()
        print(f"error: {line}", file=sys.stderr)
        status = 1
    sys.exit(status or 0)


def explain(error: Exception) -> str | None:
    """The line for an error that the user can correct; None for a bug."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, OSError) and _is_the_users(error):
        place = "" if error.filename is None else f"{error.filename}: "
        return f"{place}{error.strerror or error}"
    if type(error).__name__ == "OutOfMemoryError":  # torch's, by name: no torch is needed to say what is wrong
        return f"no GPU memory left: {str(error).splitlines()[0]}; {LESS_MEMORY}"
    if isinstance(error, MemoryError):
        return f"no memory left: {error or 'the machine refused more'}; {LESS_MEMORY}"
    if isinstance(error, ModuleNotFoundError) and error.name and error.name.partition(".")[0] != "spml":
        return (
            f"{sys.executable} has no package {error.name}: pip install -r requirements.txt, or start the Python "
            "of the environment that has it"
        )
    return None


def _is_the_users(error: OSError) -> bool:
    return error.errno in FULL_DISK or (error.filename is not None and error.errno in REFUSED_PATHS)
