"""Make labels of the confident areas of CAMs, to train affinities on or to spread from: 255 where nothing is sure.

The config says which: two backgrounds (1 - max)^alpha for train.task affinity, two thresholds for irn. Each makes a
labelling, which a CRF refines; pixels whose labellings differ are 255. For other tasks the thresholds of `pipeline`
say where labels spread from, without a CRF.
"""

import argparse

from spml.cli import settings
from spml.cli.options import add, add_config
from spml.cli.parser import Parser
from spml.data.lists import read_list
from spml.inference.views import MAX_PIXELS
from spml.processes import say, shared_work
from spml.propagate.crf import BACKENDS
from spml.pseudo.confident import areas_of, confident_list


def add_arguments(parser: Parser) -> None:
    add_config(parser)
    add(parser, "data_dir", help="folder that the list's paths are relative to (dataset.data_dir)")
    add(parser, "data_list")
    add(parser, "cam_dir", required=True)
    add(parser, "save_dir", help="gets semantic_gray, semantic_color and list.txt")
    add(parser, "crf", default=True, help="refine each labelling with a dense CRF, as published")
    add(parser, "crf_workers")
    add(parser, "crf_backend", choices=BACKENDS)
    add(parser, "max_pixels", default=MAX_PIXELS["CRF"], help="an image with more is labelled at a smaller size")
    add(parser, "overwrite", help="label finished images again")


def main(args: argparse.Namespace) -> None:
    config, device = settings.read_config(args)
    samples = read_list(settings.data_of(config, args, "train"), config.dataset.data_dir)
    bounds = {"max_pixels": args.max_pixels, "crf_workers": args.crf_workers}
    with shared_work(device) as device:
        areas = areas_of(config, device, args.crf_backend, args.crf)
        say(confident_list(config, samples, args.cam_dir, areas, args.save_dir, **bounds, overwrite=args.overwrite))
