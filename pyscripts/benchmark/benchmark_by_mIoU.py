"""Mean IoU of a folder of predictions, over all pixels of the data set."""

from spml.cli import run
from spml.evaluation.benchmark import benchmark


def main() -> int:
    return benchmark(str(__doc__), by_instance=False)


if __name__ == "__main__":
    run(main)
