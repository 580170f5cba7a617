"""Train what train.task says: stage 1, if nothing else is said.

On several GPUs or machines: torchrun --nproc_per_node=N pyscripts/train/train.py ...
"""

from spml.cli.exits import run
from spml.cli.interruption import INTERRUPTED, interruption
from spml.cli.options import parse_training
from spml.engine.run import train


def main() -> int:
    args, config, device = parse_training(__doc__)
    with interruption() as stop:
        done = train(config, args.snapshot_dir, stop=stop, device=device, resume=args.resume)
    return 0 if done.finished else INTERRUPTED


if __name__ == "__main__":
    run(main)
