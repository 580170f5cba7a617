"""The mIoU of a pipeline's labels against masks, stage by stage: adds rows to a JSON file and prints all as a table.

A diagnostic: a pipeline, threshold or stage chosen by it would leak the masks into weak supervision.
"""

import argparse

from spml.classes import class_names
from spml.cli.exits import run
from spml.evaluation.quality import benchmark_result, label_quality, quality_table, record


def named(text: str) -> tuple[str, str]:
    """`NAME=PATH` as a pair; an argparse type."""
    name, equals, path = text.partition("=")
    if not name or not equals or not path:
        raise argparse.ArgumentTypeError(f"expected NAME=PATH, got {text!r}")
    return name, path


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=str(__doc__), formatter_class=argparse.ArgumentDefaultsHelpFormatter, allow_abbrev=False
    )
    add = parser.add_argument
    add("--json", required=True, help="file of the rows, such as <snapshots>/quality.json")
    add("--labels", nargs="*", type=named, default=[], metavar="NAME=DIR", help="folders of label PNGs to compare")
    add("--results", nargs="*", type=named, default=[], metavar="NAME=FILE", help="JSON files of benchmark_by_mIoU.py")
    add("--data_list", help="with --labels: a list of `image mask` lines")
    add("--data_dir", default=".", help="what the paths in --data_list are relative to")
    add("--num_classes", type=int, help="number of classes; as many as --classes names, else 21")
    add("--classes", help="file of class names, one a line")
    args = parser.parse_args(argv)
    if args.labels and args.data_list is None:
        parser.error("--labels needs --data_list, a list of masks")
    count = len(class_names(args.num_classes, args.classes))
    rows = {name: label_quality(folder, args.data_list, args.data_dir, count) for name, folder in args.labels}
    print(quality_table(record(args.json, rows | {name: benchmark_result(path) for name, path in args.results})))


if __name__ == "__main__":
    run(main)
