"""Full masks of VOC (palette or RGB PNG) and SBD (MATLAB files) as grey PNGs of class ids.

The same as `spml prepare masks`.
"""

from spml.cli.exits import run


def main(words: list[str] | None = None) -> int:
    from spml.cli.main import command  # here, where `run` listens for Ctrl-C

    return command("prepare masks", words, "masks.py")


if __name__ == "__main__":
    run(main)
