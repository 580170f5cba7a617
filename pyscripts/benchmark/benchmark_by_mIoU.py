"""Mean IoU of a folder of predictions, over all pixels of the data set.

The same as `spml evaluate`.
"""

from spml.cli.exits import run


def main(words: list[str] | None = None) -> int:
    from spml.cli.main import command  # here, where `run` listens for Ctrl-C

    return command("evaluate", words, "benchmark_by_mIoU.py")


if __name__ == "__main__":
    run(main)
