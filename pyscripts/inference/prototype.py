"""Fill a memory with labelled prototypes: the segments of training images, named by their weak labels.

The same as `spml memory`.
"""

from spml.cli.exits import run


def main(words: list[str] | None = None) -> int:
    from spml.cli.main import command  # here, where `run` listens for Ctrl-C

    return command("memory", words, "prototype.py")


if __name__ == "__main__":
    run(main)
