"""Fill a memory with labelled prototypes: the segments of training images, named by their weak labels."""

import argparse

from spml.cli import options as arguments
from spml.cli.exits import run
from spml.data.lists import read_list
from spml.inference.memory import FULL_MASKS, fill_memory
from spml.inference.predictors import load_models
from spml.inference.segmenter import Segmenter
from spml.models.checkpoint import find_snapshot


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    arguments.add_common_arguments(parser)
    arguments.add_segment_arguments(parser)
    arguments.add_view_arguments(parser)
    parser.add_argument("--save_dir", required=True, help="gets semantic_prototype, semantic_cluster and memory.json")
    parser.add_argument("--full_masks", default=None, metavar="LIST", help="fill from this list of full masks instead")
    parser.add_argument("--overwrite", action="store_true", help="compute images again that are in the memory")
    args, config, device = arguments.parse(parser)
    if args.full_masks and args.data_list:
        parser.error("--full_masks takes the place of --data_list: give one of them")
    if args.full_masks:
        print(f"warning: {FULL_MASKS}")
    weak_labels = args.data_list or config.dataset.train_data_list
    samples = read_list(args.full_masks or weak_labels, config.dataset.data_dir, columns=2)
    model, _ = load_models(config, find_snapshot(args.snapshot_dir), device, with_classifier=False)
    segmenter = Segmenter.from_config(config, model, arguments.views_of(args, config), device)
    full_masks = args.full_masks is not None
    print(fill_memory(config, samples, segmenter, args.save_dir, full_masks=full_masks, overwrite=args.overwrite))


if __name__ == "__main__":
    run(main)
