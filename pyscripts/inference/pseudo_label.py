"""Make pseudo labels for training images from CAMs, the softmax classifier, retrieval or points."""

import argparse

from spml.cli import options as arguments
from spml.cli.exits import run
from spml.data.lists import read_list
from spml.models.checkpoint import find_snapshot
from spml.pseudo.label import SOURCES, build_source, choose_recipe, label_list


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    arguments.add_common_arguments(parser)
    arguments.add_segment_arguments(parser)
    arguments.add_view_arguments(parser)
    arguments.add_crf_arguments(parser)
    parser.add_argument("--save_dir", required=True, help="gets semantic_gray, semantic_color and list.txt")
    parser.add_argument("--source", choices=SOURCES, required=True, help="sets defaults of scales, flip, walk and CRF")
    parser.add_argument("--walk_steps", type=int, default=None, help="of the random walk; 0: none; released: 64, or 1")
    parser.add_argument("--cam_dir", default=None, help="for cam: folder of <name>.npy, one dict of CAMs an image")
    parser.add_argument("--semantic_memory_dir", default=None, help="for retrieval: what prototype.py saved")
    parser.add_argument("--overwrite", action="store_true", help="label images again that have their label")
    args, config, device = arguments.parse(parser)
    recipe = choose_recipe(args.source, args.scales, args.flip, args.walk_steps, args.crf)
    args.crf = recipe.crf
    columns = 1 if args.source == "cam" else 2
    samples = read_list(args.data_list or config.dataset.train_data_list, config.dataset.data_dir, columns)
    plan = recipe.plan(config, arguments.views_of(args, config).max_pixels)
    source = build_source(
        *(config, args.source, find_snapshot(args.snapshot_dir), plan, device, samples),
        walk_steps=recipe.walk_steps,
        cam_dir=args.cam_dir,
        memory_dir=args.semantic_memory_dir,
    )
    steps, crf = recipe.walk_steps, arguments.crf_of(args, device)
    options = {"walk_steps": steps, "crf": crf, "crf_workers": args.crf_workers, "overwrite": args.overwrite}
    print(label_list(config, samples, source, args.save_dir, **options))


if __name__ == "__main__":
    run(main)
