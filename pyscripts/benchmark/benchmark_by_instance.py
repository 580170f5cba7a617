"""Mean IoU of a folder of predictions, each image's IoU weighted by its instances of the class."""

from spml.cli.evaluate import benchmark
from spml.cli.exits import run


def main() -> int:
    return benchmark(str(__doc__), by_instance=True)


if __name__ == "__main__":
    run(main)
