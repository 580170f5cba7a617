"""Train a network of class activation maps from tags: plain CAM, or SEAM by network.prediction_types.

On several GPUs or machines: torchrun --nproc_per_node=N pyscripts/train/train_cam.py ...
"""

from spml.cli.exits import run
from spml.cli.interruption import INTERRUPTED, interruption
from spml.cli.options import parse_training
from spml.engine.run import train
from spml.errors import UserError


def main() -> int:
    args, config, device = parse_training(__doc__, tags=True)
    if config.train.task not in ("cam", "seam"):
        raise UserError(f"train.task: expected cam or seam for a CAM network, got {config.train.task}")
    with interruption() as stop:
        done = train(config, args.snapshot_dir, stop=stop, device=device, resume=args.resume)
    return 0 if done.finished else INTERRUPTED


if __name__ == "__main__":
    run(main)
