"""Write the lists of your own folder: images beside label PNGs of the same name, and all images."""

import argparse
import sys
from pathlib import Path

from spml.cli.options import add
from spml.cli.parser import Parser
from spml.data.pairs import strays, write_pairs
from spml.pipelines.settings import ANNOTATIONS


def add_arguments(parser: Parser) -> None:
    add(parser, "data_dir", required=True, help="images in images/ or in the folder itself, labels in scribbles/ ..")
    add(parser, "kind", choices=ANNOTATIONS)
    add(parser, "save_dir", help="gets train.txt and all.txt")
    add(parser, "overwrite", help="replace lists of these names that hold other lines")


def main(args: argparse.Namespace) -> None:
    folder = Path(args.save_dir)
    train, everything = folder / "train.txt", folder / "all.txt"
    labelled, images = write_pairs(args.data_dir, args.kind, train, everything, overwrite=args.overwrite)
    for line in strays(args.data_dir, args.kind):
        print(f"warning: {line}", file=sys.stderr)
    print(f"{labelled} of {images} images have labels: {train}; all: {everything}")
