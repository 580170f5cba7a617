"""Pack the images, labels and over-segmentations of a list into tars, and write the list that names these.

Training, prediction and pseudo labels read the new list with --data_dir set to the folder of the shards.
"""

import argparse

from spml.cli.options import add
from spml.cli.parser import Parser
from spml.data.prepare.pack import pack_list


def add_arguments(parser: Parser) -> None:
    add(parser, "data_dir", required=True)
    add(parser, "data_list", required=True, help="list of `image [label [over-segmentation]]`")
    add(parser, "save_dir", help="gets <list>-000000.tar .. with their indexes, and <list>.txt")
    add(parser, "samples", "num_workers")
    add(parser, "overwrite", help="write shards again that hold something else")


def main(args: argparse.Namespace) -> None:
    more = {"samples": args.samples, "num_workers": args.num_workers, "overwrite": args.overwrite}
    print(pack_list(args.data_dir, args.data_list, args.save_dir, **more))
