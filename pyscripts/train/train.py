"""Stage 1: train the embedding under the four relations, with the classifier beside it; or another train.task.

The same as `spml train`.
"""

from spml.cli.exits import run


def main(words: list[str] | None = None) -> int:
    from spml.cli.main import command  # here, where `run` listens for Ctrl-C

    return command("train", words, "train.py")


if __name__ == "__main__":
    run(main)
