"""Make the built-in data, train SPML and partial cross-entropy from its points, evaluate, and draw what came out."""

import argparse
from pathlib import Path

from spml.cli.exits import run
from spml.cli.interruption import interruption
from spml.cli.options import parse_words, seed_list
from spml.device import resolve_device
from spml.pipelines.compare import summary
from spml.pipelines.quickstart import quickstart


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--cfg_path", default="configs/quickstart.yaml", help="YAML file of the experiment")
    parser.add_argument("--save_dir", default="snapshots/quickstart", help="gets data, runs, result.json, result.png")
    parser.add_argument("--seeds", type=seed_list, default=[0], help="runs to average, such as 0,1,2")
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:<i>, or auto: cuda where there is one")
    args, overrides = parse_words(parser)
    device = resolve_device(args.device)
    result = quickstart(args.cfg_path, args.save_dir, args.seeds, device, overrides, interruption)
    print(summary(result))
    print(f"{result['seconds']:.0f} s; {Path(args.save_dir) / 'result.json'}, {Path(args.save_dir) / 'result.png'}")


if __name__ == "__main__":
    run(main)
