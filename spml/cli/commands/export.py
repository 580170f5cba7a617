"""Write a folder's strokes and labels in the format of another tool. docs/formats.md says what becomes what."""

import argparse

from spml.cli.options import add
from spml.cli.parser import Parser
from spml.data.formats import TABLE, export_annotations


def add_arguments(parser: Parser) -> None:
    parser.add_argument("folder", help="with classes.txt, and strokes/ or labels/")
    parser.add_argument("out", help="folder to write")
    add(parser, "format", required=True, choices=list(TABLE))
    add(parser, "images")
    add(parser, "overwrite", help="replace files that are there with other content")


def main(args: argparse.Namespace) -> None:
    done = export_annotations(args.folder, args.out, args.format, images=args.images, overwrite=args.overwrite)
    print(*(f"note: {note}" for note in done.notes), done.message, sep="\n")
