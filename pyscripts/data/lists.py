"""The data lists of VOC or DensePose, with the released names, from the folders of a data root.

The same as `spml prepare lists`.
"""

from spml.cli.exits import run


def main(words: list[str] | None = None) -> int:
    from spml.cli.main import command  # here, where `run` listens for Ctrl-C

    return command("prepare lists", words, "lists.py")


if __name__ == "__main__":
    run(main)
