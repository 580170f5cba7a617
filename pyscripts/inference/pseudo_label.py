"""Make pseudo labels for training images from CAMs, the softmax classifier, retrieval or points.

The same as `spml pseudo-label`.
"""

from spml.cli.exits import run


def main(words: list[str] | None = None) -> int:
    from spml.cli.main import command  # here, where `run` listens for Ctrl-C

    return command("pseudo-label", words, "pseudo_label.py")


if __name__ == "__main__":
    run(main)
