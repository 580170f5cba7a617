"""Make pseudo labels for training images from CAMs, the softmax classifier, retrieval, points or frozen features."""

import argparse

from spml.cli import settings
from spml.cli.options import SEGMENTS, add, add_network
from spml.cli.parser import Parser
from spml.cli.survey import print_drawn
from spml.data.lists import read_list
from spml.models.checkpoint import find_snapshot
from spml.processes import say, shared_work
from spml.pseudo import SOURCES
from spml.pseudo.label import build_source, choose_recipe, label_list


def add_arguments(parser: Parser) -> None:
    add_network(parser, required=False, help="folder of model-<i>.pth: the newest, or one file; spread needs none")
    add(parser, *SEGMENTS)
    settings.add_views(parser)
    settings.add_crf(parser)
    settings.add_runtime(parser)
    add(parser, "save_dir", help="gets semantic_gray, semantic_color and list.txt")
    add(parser, "source", choices=tuple(SOURCES))
    add(parser, "walk_steps")
    add(parser, "cam_dir", help="for cam, affinity and irn: folder of <name>.npy, one dict of CAMs an image")
    add(parser, "semantic_memory_dir")
    add(parser, "overwrite", help="label finished images again")


def main(args: argparse.Namespace) -> None:
    config, device = settings.read_config(args)
    recipe = choose_recipe(args.source, args.scales, args.flip, args.walk_steps, args.crf)
    args.crf = recipe.crf
    columns = 2 if "label" in SOURCES[args.source].needs else 1
    samples = read_list(settings.data_of(config, args, "train"), config.dataset.data_dir, columns)
    if args.source == "spread":
        print_drawn(config, settings.data_of(config, args, "train"), samples, args.save_dir, args.overwrite)
    plan = recipe.plan(config, settings.views_of(args, config).max_pixels)
    snapshot, steps = args.snapshot_dir and find_snapshot(args.snapshot_dir), recipe.walk_steps
    given = {"cam_dir": args.cam_dir, "memory_dir": args.semantic_memory_dir, "runtime": args.runtime}
    options = {"walk_steps": steps, "crf_workers": args.crf_workers, "overwrite": args.overwrite}
    with shared_work(device) as device:
        labeller = build_source(config, args.source, snapshot, plan, device, samples, walk_steps=steps, **given)
        say(label_list(config, samples, labeller, args.save_dir, crf=settings.crf_of(args, device), **options))
