"""Take annotations of another tool into a folder that the studio and `spml run` can use.

Points, lines and boxes stay weak; polygons and masks are labels. docs/formats.md says what becomes what.
"""

import argparse

from spml.cli.options import add
from spml.cli.parser import Parser
from spml.data.formats import TABLE, import_annotations


def add_arguments(parser: Parser) -> None:
    parser.add_argument("source", help="file, folder, or zip file")
    parser.add_argument("folder", help="gets classes.txt, strokes/, labels/, weak/, lists/, boxes.json, tags.txt")
    add(parser, "format", default="auto", choices=["auto", *TABLE])
    add(parser, "classes", help="file of class names, one a line; left out: those of the folder, then the source's")
    add(parser, "image_dir", help="folder of the photographs; left out: FOLDER, then around the source")
    add(parser, "overwrite", help="replace what the folder has of these images")


def main(args: argparse.Namespace) -> None:
    done = import_annotations(
        *(args.source, args.folder, args.format),
        classes=args.classes,
        image_dir=args.image_dir,
        overwrite=args.overwrite,
    )
    print(*(f"note: {note}" for note in done.notes), done.message, sep="\n")
