"""Train a network of class activation maps from tags: plain CAM, or SEAM by network.prediction_types.

On several GPUs or machines: torchrun --nproc_per_node=N pyscripts/train/train_cam.py ...
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
    parser.add_argument("--tags", default=None, help="file `name class ..` or folder of VOC XML (dataset.tags)")
    parser.add_argument("--resume", action="store_true", help="go on from the newest snapshot of --snapshot_dir")
    args, config, device = parse(parser)
    if args.data_list:
        config.dataset.train_data_list = args.data_list
    if args.tags:
        config.dataset.tags = args.tags
    return train(config, args.snapshot_dir, device, "cam", args.resume)


if __name__ == "__main__":
    run(main)
