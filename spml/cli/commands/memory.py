"""Fill a memory with labelled prototypes: the segments of training images, with classes from their weak labels."""

import argparse

from spml.cli import settings
from spml.cli.options import SEGMENTS, add, add_network
from spml.cli.parser import Parser
from spml.data.lists import read_list
from spml.inference.memory import FULL_MASKS, fill_memory
from spml.inference.predictors import load_models
from spml.inference.segmenter import Segmenter
from spml.models.checkpoint import find_snapshot
from spml.processes import say, shared_work


def add_arguments(parser: Parser) -> None:
    add_network(parser)
    add(parser, *SEGMENTS)
    settings.add_views(parser)
    settings.add_runtime(parser)
    add(parser, "save_dir", help="gets semantic_prototype, semantic_cluster and the record")
    add(parser, "full_masks")
    add(parser, "overwrite", help="compute images of the memory again")


def main(args: argparse.Namespace) -> None:
    if args.full_masks and args.data_list:
        args.error("--full_masks takes the place of --data_list: give one of them")
    config, device = settings.read_config(args)
    chosen = args.full_masks or settings.data_of(config, args, "train")
    samples = read_list(chosen, config.dataset.data_dir, columns=2)
    options = {"full_masks": args.full_masks is not None, "overwrite": args.overwrite}
    with shared_work(device) as device:
        if args.full_masks:
            say(f"warning: {FULL_MASKS}")
        model, _ = load_models(
            config, find_snapshot(args.snapshot_dir), device, with_classifier=False, runtime=args.runtime
        )
        segmenter = Segmenter.from_config(config, model, settings.views_of(args, config), device)
        say(fill_memory(config, samples, segmenter, args.save_dir, **options))
