"""Walk a data root and say in a table what is missing; exit status 1 if anything is.

The same as `spml check`.
"""

from spml.cli.exits import run


def main(words: list[str] | None = None) -> int:
    from spml.cli.main import command  # here, where `run` listens for Ctrl-C

    return command("check", words, "check.py")


if __name__ == "__main__":
    run(main)
