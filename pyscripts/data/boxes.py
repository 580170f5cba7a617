"""Boxes of VOC's XML files as boxes.json and as labels that need no CAM: background outside, a core inside.

The same as `spml prepare boxes`.
"""

from spml.cli.exits import run


def main(words: list[str] | None = None) -> int:
    from spml.cli.main import command  # here, where `run` listens for Ctrl-C

    return command("prepare boxes", words, "boxes.py")


if __name__ == "__main__":
    run(main)
