"""CAM files as labels of tags (1 - max)^6 against 0.2, or of boxes: 0.5 of each box's own range.

The same as `spml prepare cam-labels`.
"""

from spml.cli.exits import run


def main(words: list[str] | None = None) -> int:
    from spml.cli.main import command  # here, where `run` listens for Ctrl-C

    return command("prepare cam-labels", words, "cams.py")


if __name__ == "__main__":
    run(main)
