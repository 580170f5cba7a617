"""ScribbleSup's XML as label PNGs: scribbles, shortened scribbles, or points (--length_ratio 0 --dilation 6).

The same as `spml prepare scribbles`.
"""

from spml.cli.exits import run


def main(words: list[str] | None = None) -> int:
    from spml.cli.main import command  # here, where `run` listens for Ctrl-C

    return command("prepare scribbles", words, "scribbles.py")


if __name__ == "__main__":
    run(main)
