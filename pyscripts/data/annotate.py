"""Weak annotations (scribbles, points, boxes, tags) made from full masks, with a seed.

The same as `spml annotate`.
"""

from spml.cli.exits import run


def main(words: list[str] | None = None) -> int:
    from spml.cli.main import command  # here, where `run` listens for Ctrl-C

    return command("annotate", words, "annotate.py")


if __name__ == "__main__":
    run(main)
