"""The mIoU of a pipeline's labels against masks, stage by stage: adds rows to a JSON file and prints all as a table.

The same as `spml quality`.
"""

from spml.cli.exits import run


def main(words: list[str] | None = None) -> int:
    from spml.cli.main import command  # here, where `run` listens for Ctrl-C

    return command("quality", words, "quality.py")


if __name__ == "__main__":
    run(main)
