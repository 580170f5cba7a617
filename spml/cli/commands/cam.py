"""Make class activation maps (CAMs) of the tags of images, and labels from them, for tags and boxes.

Without --scales it takes test.scales, if the config has them, or 0.5, 1, 1.5 and 2, each with its mirror image.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from easydict import EasyDict

from spml.classes import class_names
from spml.cli import settings
from spml.cli.options import add, add_network
from spml.cli.parser import Parser
from spml.data.lists import read_list
from spml.data.prepare.boxes import boxes_of
from spml.data.samples import Sample
from spml.errors import UserError
from spml.evaluation.cams import sweep_list, write_sweep
from spml.inference.cams import cam_list, cam_plan, present_classes
from spml.models.cam import CAM_TASKS, load_cam_model
from spml.models.checkpoint import find_snapshot
from spml.processes import rank, say, shared_work
from spml.propagate.cam import BOX_THRESHOLD, TAG_THRESHOLD
from spml.pseudo.cam_labels import LabelRule, label_and_draw, with_instances


def add_arguments(parser: Parser) -> None:
    add_network(parser)
    settings.add_views(parser)
    add(parser, "save_dir", help="gets cam, <kind>_label, list_<kind>.txt and picture")
    add(parser, "tags")
    add(parser, "boxes", help="boxes.json, or a folder of VOC annotations <name>.xml: box labels as well")
    add(parser, "instance_dir", help="over-segmentations <name>.png for the lists; else those of --data_list")
    add(parser, "alpha")
    add(parser, "threshold", default=TAG_THRESHOLD, help="least score of a tag label")
    add(parser, "box_threshold", default=BOX_THRESHOLD)
    add(parser, "pictures")
    add(parser, "gt_list", help="`image mask` lines: mIoU over thresholds, a diagnostic")
    add(parser, "overwrite", help="make existing CAMs again")


def main(args: argparse.Namespace) -> None:
    config, device = settings.read_config(args)
    args.alpha = config.test.cam_alpha if args.alpha is None else args.alpha
    if config.train.task not in CAM_TASKS:
        raise UserError(f"train.task: expected {' or '.join(CAM_TASKS)}, got {config.train.task}, in {args.config}")
    with shared_work(device) as device:
        make_cams(args, config, device)


def make_cams(args: argparse.Namespace, config: EasyDict, device: torch.device) -> None:
    """Make CAMs and labels from them, and with masks the mIoU over thresholds."""
    data, save_dir = config.dataset, Path(args.save_dir)
    classes = data.class_names or class_names(data.num_classes)
    rules = [LabelRule("tag", len(classes), args.alpha, args.threshold, data.background)]
    samples: Sequence[Sample] = read_list(settings.data_of(config, args, "train"), data.data_dir)
    boxes = None
    if args.boxes:
        rules.append(LabelRule("box", len(classes), args.alpha, args.box_threshold, data.background))
        boxes = boxes_of(args.boxes, [sample.name for sample in samples], classes, data.background)
    if args.instance_dir:
        samples = with_instances(samples, args.instance_dir)
    present = present_classes(data, samples, classes)
    plan = cam_plan(config, args.scales, args.flip, args.max_pixels)
    model = load_cam_model(config, find_snapshot(args.snapshot_dir)).to(device)
    say(cam_list(config, samples, present, model, plan, device, save_dir, overwrite=args.overwrite))
    say(label_and_draw(samples, save_dir, rules, data.data_dir, classes, boxes=boxes, pictures=args.pictures))
    if args.gt_list and rank() == 0:
        found = sweep_list(
            save_dir / "cam", args.gt_list, data.data_dir, len(classes), args.alpha, background=data.background
        )
        print(write_sweep(save_dir / "thresholds.json", found))
