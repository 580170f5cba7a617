"""Predict label images with a trained embedding, by retrieval from a memory or by its softmax classifier."""

import argparse

from spml.cli import options as arguments
from spml.cli.exits import run
from spml.data.lists import read_list
from spml.inference.predictors import build_predictor, predict_list
from spml.models.checkpoint import find_snapshot


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    arguments.add_common_arguments(parser)
    arguments.add_segment_arguments(parser)
    arguments.add_view_arguments(parser)
    arguments.add_crf_arguments(parser)
    parser.add_argument("--save_dir", required=True, help="gets semantic_gray, semantic_color and semantic_cluster")
    parser.add_argument(
        "--predictor", choices=("retrieval", "softmax"), default="retrieval", help="source of the labels"
    )
    parser.add_argument("--semantic_memory_dir", default=None, help="memory for retrieval: what prototype.py saved")
    parser.add_argument(
        "--approximate", action="store_true", help="retrieval by an index (faiss): memories of millions"
    )
    parser.add_argument("--overwrite", action="store_true", help="predict images again that have their label")
    args, config, device = arguments.parse(parser)
    samples = read_list(args.data_list or config.dataset.test_data_list, config.dataset.data_dir)
    plan = arguments.views_of(args, config, args.predictor)
    snapshot = find_snapshot(args.snapshot_dir)
    predictor = build_predictor(
        config, args.predictor, snapshot, plan, device, args.semantic_memory_dir, args.approximate
    )
    crf = arguments.crf_of(args, device)
    print(
        predict_list(
            config, samples, predictor, args.save_dir, crf=crf, crf_workers=args.crf_workers, overwrite=args.overwrite
        )
    )


if __name__ == "__main__":
    run(main)
