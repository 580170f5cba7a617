"""Train SPML and its baseline, partial cross-entropy, on the same network, data and steps; print and save both mIoUs.

The same as `spml compare`.
"""

from spml.cli.exits import run


def main(words: list[str] | None = None) -> int:
    from spml.cli.main import command  # here, where `run` listens for Ctrl-C

    return command("compare", words, "compare.py")


if __name__ == "__main__":
    run(main)
