"""Make class activation maps (CAMs) of the classes that images are tagged with, and labels of tags and boxes of them.

Without --scales and --flip the scales are 0.5, 1, 1.5 and 2, each with its mirror image.
"""

import argparse
import json
from pathlib import Path

from spml.cli import run
from spml.data.lists import read_list, write_atomically
from spml.data.prepare.boxes import boxes_of
from spml.engine import arguments
from spml.engine.cam_labels import LabelRule, draw_cams, label_samples, with_instances
from spml.engine.predict_cam import cam_list, cam_plan, present_classes
from spml.evaluation.cams import sweep_list, sweep_table
from spml.evaluation.names import class_names
from spml.models.cam import load_cam_model
from spml.propagate.cam import ALPHA, BOX_THRESHOLD, TAG_THRESHOLD


def add_arguments(parser: argparse.ArgumentParser) -> None:
    arguments.add_common_arguments(parser)
    arguments.add_view_arguments(parser)
    add = parser.add_argument
    add("--save_dir", required=True, help="gets cam, tag_label, list_tag.txt, picture; with --boxes box_label as well")
    add("--boxes", default=None, help="boxes.json, or a folder of VOC annotations <name>.xml")
    add("--instance_dir", default=None, help="over-segmentations <name>.png for the lists; else those of --data_list")
    add("--alpha", type=float, default=ALPHA, help="the background's score is (1 - max)^alpha")
    add("--threshold", type=float, default=TAG_THRESHOLD, help="least score of a tag label")
    add("--box_threshold", type=float, default=BOX_THRESHOLD, help="least share of a box's own range of a box label")
    add("--pictures", type=int, default=16, help="images to draw heat maps of, spread over the list")
    add("--gt_list", default=None, metavar="LIST", help="`image mask` lines: mIoU over thresholds, a diagnostic")
    add("--overwrite", action="store_true", help="make CAMs again that are there already")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    add_arguments(parser)
    args, config, device = arguments.parse(parser)
    data, save_dir = config.dataset, Path(args.save_dir)
    classes = data.class_names or class_names(data.num_classes)
    rules = [LabelRule("tag", len(classes), args.alpha, args.threshold)]
    samples = read_list(args.data_list or data.train_data_list, data.data_dir)
    boxes = None
    if args.boxes:
        rules.append(LabelRule("box", len(classes), args.alpha, args.box_threshold))
        boxes = boxes_of(args.boxes, [sample.name for sample in samples], classes)
    if args.instance_dir:
        samples = with_instances(samples, args.instance_dir)
    present = present_classes(data, samples, classes)
    plan = cam_plan(config, args.scales, args.flip, args.max_pixels)
    model = load_cam_model(config, arguments.find_snapshot(args.snapshot_dir)).to(device)
    print(cam_list(config, samples, present, model, plan, device, save_dir, overwrite=args.overwrite))
    for rule in rules:
        print(f"{rule.kind} labels: {label_samples(samples, save_dir, rule, data.data_dir, boxes)}")
    draw_cams(samples, save_dir, [rule.kind for rule in rules], classes, args.pictures)
    if args.gt_list:
        found = sweep_list(save_dir / "cam", args.gt_list, data.data_dir, len(classes), args.alpha)
        write_atomically(save_dir / "thresholds.json", lambda file: file.write(json.dumps(found, indent=2).encode()))
        print(sweep_table(found))


if __name__ == "__main__":
    run(main)
