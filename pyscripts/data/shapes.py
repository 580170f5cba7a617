"""Make the built-in data set: drawn scenes with exact masks, points, scribbles, boxes, tags and over-segmentations.

The same as `spml shapes`.
"""

from spml.cli.exits import run


def main(words: list[str] | None = None) -> int:
    from spml.cli.main import command  # here, where `run` listens for Ctrl-C

    return command("shapes", words, "shapes.py")


if __name__ == "__main__":
    run(main)
