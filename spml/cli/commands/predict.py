"""Predict label images with a trained embedding, by retrieval from a memory or by its softmax classifier."""

import argparse

from spml.cli import settings
from spml.cli.options import SEGMENTS, add, add_network
from spml.cli.parser import Parser
from spml.data.lists import read_list
from spml.errors import UserError
from spml.inference.predictors import PREDICTORS, build_predictor, predict_list
from spml.models.checkpoint import find_snapshot
from spml.processes import say, shared_work


def add_arguments(parser: Parser) -> None:
    add_network(parser)
    add(parser, *SEGMENTS)
    settings.add_views(parser)
    settings.add_crf(parser)
    settings.add_runtime(parser)
    add(parser, "save_dir", help="gets semantic_gray, semantic_color and semantic_cluster")
    add(parser, "predictor", choices=tuple(PREDICTORS))
    add(parser, "semantic_memory_dir", "approximate")
    add(parser, "overwrite", help="predict finished images again")


def main(args: argparse.Namespace) -> None:
    for option in ("approximate", "semantic_memory_dir"):
        if getattr(args, option) and args.predictor != "retrieval":
            raise UserError(f"--{option} is for --predictor retrieval, got {args.predictor}")
    config, device = settings.read_config(args)
    samples = read_list(settings.data_of(config, args, "test"), config.dataset.data_dir)
    plan = settings.views_of(args, config, args.predictor)
    snapshot = find_snapshot(args.snapshot_dir)
    retrieval = (args.semantic_memory_dir, args.approximate, args.runtime)
    options = {"crf_workers": args.crf_workers, "overwrite": args.overwrite}
    with shared_work(device) as device:
        predictor = build_predictor(config, args.predictor, snapshot, plan, device, *retrieval)
        crf = settings.crf_of(args, device)
        say(predict_list(config, samples, predictor, args.save_dir, crf=crf, **options))
