"""The mIoU of a pipeline's labels against masks, stage by stage: adds rows to a JSON file and prints all as a table.

A diagnostic: a pipeline, threshold or stage chosen by it would leak the masks into weak supervision.
"""

import argparse

from spml.classes import class_names
from spml.cli.options import add
from spml.cli.parser import Parser
from spml.evaluation.quality import benchmark_result, label_quality, quality_table, record


def add_arguments(parser: Parser) -> None:
    add(parser, "json", required=True, help="file of the rows, such as <snapshots>/quality.json")
    add(parser, "labels", "results")
    add(parser, "data_list", help="with --labels: a list of `image mask` lines")
    add(parser, "data_dir", default=".", help="what the paths in --data_list are relative to")
    add(parser, "num_classes", help="number of classes; as many as --classes names, else 21")
    add(parser, "classes")


def main(args: argparse.Namespace) -> None:
    if args.labels and args.data_list is None:
        args.error("--labels needs --data_list, a list of masks")
    count = len(class_names(args.num_classes, args.classes))
    rows = {name: label_quality(folder, args.data_list, args.data_dir, count) for name, folder in args.labels}
    print(quality_table(record(args.json, rows | {name: benchmark_result(path) for name, path in args.results})))
