"""Train a network of class activation maps from tags: plain CAM, or SEAM by network.prediction_types.

On several GPUs or machines: torchrun --nproc_per_node=N pyscripts/train/train_cam.py ...
"""

from spml.cli.exits import run
from spml.cli.options import parse_training
from spml.engine.loop import train


def main() -> int:
    args, config, device = parse_training(__doc__, tags=True)
    return train(config, args.snapshot_dir, device, "cam", args.resume)


if __name__ == "__main__":
    run(main)
