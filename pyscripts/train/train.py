"""Stage 1: train the embedding under the four relations, with the classifier beside it.

On several GPUs or machines: torchrun --nproc_per_node=N pyscripts/train/train.py ...
"""

from spml.cli.exits import run
from spml.cli.options import parse_training
from spml.engine.loop import train


def main() -> int:
    args, config, device = parse_training(__doc__)
    return train(config, args.snapshot_dir, device, "embedding", args.resume)


if __name__ == "__main__":
    run(main)
