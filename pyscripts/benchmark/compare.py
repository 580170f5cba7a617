"""Train SPML and its baseline, partial cross-entropy, on the same network, data and steps; print and save both mIoUs.

Runs that are finished are not repeated, and an interrupted one goes on.
"""

import argparse
from pathlib import Path

from spml.cli.exits import run
from spml.cli.interruption import interruption
from spml.cli.options import parse_words, seed_list
from spml.device import resolve_device
from spml.files import write_json
from spml.pipelines.compare import METHODS, compare, method_list, plan_runs, summary


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--cfg_path", required=True, help="YAML file of the experiment")
    parser.add_argument("--save_dir", required=True, help="gets <method>/seed<i>/ and result.json")
    parser.add_argument("--seeds", type=seed_list, default=[0], help="such as 0,1,2")
    parser.add_argument("--methods", type=method_list, default=list(METHODS), help="which to run, by commas")
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:<i>, or auto: cuda where there is one")
    parser.epilog = "Any key of the YAML file can be overridden at the end: train.max_iteration=100"
    args, overrides = parse_words(parser)
    runs = plan_runs(args.cfg_path, args.save_dir, args.seeds, overrides, args.methods)
    result = compare(runs, resolve_device(args.device), interruption)
    write_json(Path(args.save_dir) / "result.json", result)
    print(summary(result))


if __name__ == "__main__":
    run(main)
