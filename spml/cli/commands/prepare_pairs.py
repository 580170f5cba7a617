"""Write the lists of your own folder: images beside label PNGs of the same name, and all images."""

import argparse
from pathlib import Path

from spml.cli.options import add
from spml.cli.parser import Parser
from spml.data.pairs import write_pairs
from spml.pipelines.settings import ANNOTATIONS


def add_arguments(parser: Parser) -> None:
    add(parser, "data_dir", required=True, help="images in images/ or in the folder itself, labels in scribbles/ ..")
    add(parser, "kind", choices=ANNOTATIONS)
    add(parser, "save_dir", help="gets train.txt and all.txt")


def main(args: argparse.Namespace) -> None:
    folder = Path(args.save_dir)
    train, everything = folder / "train.txt", folder / "all.txt"
    labelled, images = write_pairs(args.data_dir, args.kind, train, everything)
    print(f"{labelled} of {images} images have labels: {train}; all: {everything}")
