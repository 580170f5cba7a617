"""Stage 2: train the softmax classifier on the frozen embedding that network.pretrained names.

On several GPUs or machines: torchrun --nproc_per_node=N pyscripts/train/train_classifier.py ...
"""

import argparse

from spml.cli import run
from spml.engine.arguments import add_common_arguments, parse
from spml.engine.loop import train


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add_common_arguments(parser)
    parser.add_argument("--resume", action="store_true", help="go on from the newest snapshot of --snapshot_dir")
    args, config, device = parse(parser)
    if args.data_list:
        config.dataset.train_data_list = args.data_list
    return train(config, args.snapshot_dir, device, "classifier", args.resume)


if __name__ == "__main__":
    run(main)
