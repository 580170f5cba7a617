"""Make class activation maps (CAMs) of the classes that images are tagged with, and labels of them.

The same as `spml cam`.
"""

from spml.cli.exits import run


def main(words: list[str] | None = None) -> int:
    from spml.cli.main import command  # here, where `run` listens for Ctrl-C

    return command("cam", words, "cam.py")


if __name__ == "__main__":
    run(main)
