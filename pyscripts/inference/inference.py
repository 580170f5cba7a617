"""Predict label images with a trained embedding, by retrieval from a memory or by its softmax classifier.

The same as `spml predict`.
"""

from spml.cli.exits import run


def main(words: list[str] | None = None) -> int:
    from spml.cli.main import command  # here, where `run` listens for Ctrl-C

    return command("predict", words, "inference.py")


if __name__ == "__main__":
    run(main)
