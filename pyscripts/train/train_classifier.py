"""Stage 2: train the softmax classifier on the frozen embedding that network.pretrained names.

On several GPUs or machines: torchrun --nproc_per_node=N pyscripts/train/train_classifier.py ...
"""

from spml.cli.exits import run
from spml.cli.options import parse_training
from spml.engine.loop import train


def main() -> int:
    args, config, device = parse_training(__doc__)
    return train(config, args.snapshot_dir, device, "classifier", args.resume)


if __name__ == "__main__":
    run(main)
