"""Run a whole pipeline, from tags, boxes, scribbles, points or full masks to a segmenter and its mIoU.

On a folder of your own, `spml run scribble --data_dir FOLDER --classes FILE` needs nothing else. The same command
continues an interrupted run. key=value applies to all commands with a network.
"""

import argparse
from dataclasses import fields
from pathlib import Path

from spml.cli.main import main as execute
from spml.cli.options import add, add_config
from spml.cli.parser import Parser
from spml.device import resolve_device
from spml.errors import UserError
from spml.pipelines.plan import plan
from spml.pipelines.run import run
from spml.pipelines.settings import AFFINITIES, ANNOTATIONS, OWN_DATA, Settings
from spml.pipelines.stage import choose
from spml.processes import say


def add_arguments(parser: Parser) -> None:
    parser.add_argument("annotation", choices=ANNOTATIONS, help="what the training images are labelled with")
    add_config(parser, required=False, default=OWN_DATA)
    add(parser, "classes", help="for data of your own: file of class names, one a line (dataset.classes)")
    add(parser, "data_dir", help="folder of the data: of its lists, or of images and labels (dataset.data_dir)")
    add(parser, "snapshots", "grid", "gpus", "dry", "from", "only", "rounds")
    add(parser, "classifier", "cam", "cam_config")
    add(parser, "affinity", choices=AFFINITIES)
    add(parser, "affinity_config")
    add(parser, "cam_dir", help="for tags and boxes: folder of existing CAMs; left out: make them")
    add(parser, "boxes", help="for boxes: boxes.json, or a folder of VOC annotations <name>.xml")
    add(parser, "instance_dir", help="for CAMs: over-segmentations <name>.png, where the list names none")
    add(parser, "gt_list", help="masks of the training images: the mIoU of each stage's labels, in quality.json")
    add(parser, "expect", help="mean IoU in per cent that the last evaluation must reach, +- 0.5; else exit status 1")
    add(parser, "released_evaluation")
    add(parser, "overwrite", help="make anew what an earlier run made of other labels, images or settings")


def main(args: argparse.Namespace) -> int:
    behind = [word for word in args.only or [] if "=" in word]  # `--only train key=value`
    overrides = [*_classes(args), *behind, *args.overrides]
    only = [word for word in args.only or [] if "=" not in word]
    given = {field.name: getattr(args, field.name) for field in fields(Settings)}
    given |= {"overrides": tuple(overrides), "classifier": tuple(args.classifier), "cam": tuple(args.cam)}
    given["grid"] = tuple(args.grid) if args.grid else None
    resolve_device(args.device)
    if args.overwrite and args.gpus > 1:
        raise UserError(
            f"--overwrite: expected one process, got --gpus {args.gpus}: remove the folders that its stages name"
        )
    settings = Settings(**given)
    stages = plan(settings)
    try:
        chosen = choose(stages, getattr(args, "from"), only)
    except ValueError as error:
        raise UserError(f"--from, --only: {error}") from error
    if settings.doubt:
        say(f"warning: {settings.doubt}")
    if not args.dry:
        settings.check_lists()
    anew = settings.folder if args.overwrite else None
    return run(chosen, execute, title=settings.name, everything=stages, processes=args.gpus, dry=args.dry, anew=anew)


def _classes(args: argparse.Namespace) -> list[str]:
    """The override for --classes; for own data, for classes.txt in the data folder. Raises UserError for neither."""
    if args.classes:
        return [f"dataset.classes={args.classes}"]
    if args.config != OWN_DATA or not args.data_dir:
        return []
    if not Path(args.data_dir).is_dir():
        raise UserError(f"--data_dir: expected a folder of images and labels, got {args.data_dir}")
    beside = Path(args.data_dir) / "classes.txt"
    if beside.is_file():
        return [f"dataset.classes={beside}"]
    if any(word.startswith(("dataset.classes=", "dataset.num_classes=")) for word in args.overrides):
        return []
    raise UserError(f"--classes: expected a file of class names, one a line, or {beside}")
