"""What every command line shares: one clear line for a user's mistake, a traceback only for a bug."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from spml.errors import UserError


def run(main: Callable[[], int | None]) -> None:
    """Call `main` and exit with its status: 0 for None, 1 with `error: ...` for a UserError, 130 for Ctrl-C.

    What the machine refuses (a folder that cannot be written, a full disk, no GPU memory left) is one line too.
    """
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
    except OSError as error:
        place = "" if error.filename is None else f"{error.filename}: "
        print(f"error: {place}{error.strerror or error}", file=sys.stderr)
        status = 1
    except RuntimeError as error:
        if type(error).__name__ != "OutOfMemoryError":  # torch's, by name: no torch is needed to say what is wrong
            raise
        hint = "smaller train.batch_size, train.crop_size or test.crop_size, --max_pixels or train.amp=bf16 take less"
        print(f"error: no GPU memory left: {str(error).splitlines()[0]}; {hint}", file=sys.stderr)
        status = 1
    sys.exit(status or 0)


def _say_interrupted(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """As `sys.__excepthook__`, but one word for Ctrl-C; the interpreter ends by SIGINT after it, 130 to a shell."""
    if issubclass(kind, KeyboardInterrupt):
        print("interrupted", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


if "pyscripts" in Path(*sys.argv[:1]).parts:  # before `run`: torch and others take seconds to import
    sys.excepthook = _say_interrupted
