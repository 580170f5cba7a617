"""Mean IoU of a folder of predictions, over all pixels of the data set."""

from spml.cli.evaluate import benchmark
from spml.cli.exits import run


def main() -> int:
    return benchmark(str(__doc__), by_instance=False)


if __name__ == "__main__":
    run(main)
