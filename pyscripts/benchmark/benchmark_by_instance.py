"""Mean IoU of a folder of predictions, each image's IoU weighted by its instances of the class.

The same as `spml evaluate`.
"""

from spml.cli.exits import run


def main(words: list[str] | None = None) -> int:
    from spml.cli.main import command  # here, where `run` listens for Ctrl-C

    return command("evaluate", words, "benchmark_by_instance.py", by_instance=True)


if __name__ == "__main__":
    run(main)
