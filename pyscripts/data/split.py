"""A list to choose settings on, taken out of a training list: every sixth line, sorted.

The same as `spml split`.
"""

from spml.cli.exits import run


def main(words: list[str] | None = None) -> int:
    from spml.cli.main import command  # here, where `run` listens for Ctrl-C

    return command("split", words, "split.py")


if __name__ == "__main__":
    run(main)
