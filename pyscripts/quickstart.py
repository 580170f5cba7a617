"""Make the built-in data, train SPML and partial cross-entropy from its points, evaluate, and draw what came out.

The same as `spml quickstart`.
"""

from spml.cli.exits import run


def main(words: list[str] | None = None) -> int:
    from spml.cli.main import command  # here, where `run` listens for Ctrl-C

    return command("quickstart", words, "quickstart.py")


if __name__ == "__main__":
    run(main)
