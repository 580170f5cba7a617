"""Over-segmentations of images, for the low-level image similarity: one PNG of region ids an image.

The same as `spml oversegment`.
"""

from spml.cli.exits import run


def main(words: list[str] | None = None) -> int:
    from spml.cli.main import command  # here, where `run` listens for Ctrl-C

    return command("oversegment", words, "oversegment.py")


if __name__ == "__main__":
    run(main)
