"""Stage 2: train the softmax classifier on the frozen embedding that network.pretrained names.

The same as `spml classifier`.
"""

from spml.cli.exits import run


def main(words: list[str] | None = None) -> int:
    from spml.cli.main import command  # here, where `run` listens for Ctrl-C

    return command("classifier", words, "train_classifier.py")


if __name__ == "__main__":
    run(main)
