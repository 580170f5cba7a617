"""Mean IoU of a folder of predictions, each image's IoU weighted by its instances of the class."""

from spml.cli import run
from spml.evaluation.benchmark import benchmark


def main() -> int:
    return benchmark(str(__doc__), by_instance=True)


if __name__ == "__main__":
    run(main)
