"""Make class activation maps (CAMs) of the classes that images are tagged with, and labels of tags and boxes of them.

Without --scales they are those of test.scales, if several, or 0.5, 1, 1.5 and 2, each with its mirror image.
"""

import argparse
from pathlib import Path

from spml.classes import class_names
from spml.cli import options as arguments
from spml.cli.exits import run
from spml.data.lists import read_list
from spml.data.prepare.boxes import boxes_of
from spml.evaluation.cams import sweep_list, write_sweep
from spml.inference.cams import cam_list, cam_plan, present_classes
from spml.models.cam import load_cam_model
from spml.models.checkpoint import find_snapshot
from spml.pseudo.cam_labels import LabelRule, add_label_arguments, label_and_draw, with_instances


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    arguments.add_common_arguments(parser)
    arguments.add_view_arguments(parser)
    add_label_arguments(parser)
    parser.add_argument("--save_dir", required=True, help="gets cam, <kind>_label, list_<kind>.txt and picture")
    parser.add_argument("--tags", default=None, help="file `name class ..` or folder of VOC XML (dataset.tags)")
    parser.add_argument("--overwrite", action="store_true", help="make CAMs again that are there already")
    args, config, device = arguments.parse(parser)
    data, save_dir = config.dataset, Path(args.save_dir)
    data.tags = args.tags or data.tags
    classes = data.class_names or class_names(data.num_classes)
    rules = [LabelRule("tag", len(classes), args.alpha, args.threshold)]
    samples, boxes = read_list(args.data_list or data.train_data_list, data.data_dir), None
    if args.boxes:
        rules.append(LabelRule("box", len(classes), args.alpha, args.box_threshold))
        boxes = boxes_of(args.boxes, [sample.name for sample in samples], classes)
    if args.instance_dir:
        samples = with_instances(samples, args.instance_dir)
    present = present_classes(data, samples, classes)
    plan = cam_plan(config, args.scales, args.flip, args.max_pixels)
    model = load_cam_model(config, find_snapshot(args.snapshot_dir)).to(device)
    print(cam_list(config, samples, present, model, plan, device, save_dir, overwrite=args.overwrite))
    print(label_and_draw(samples, save_dir, rules, data.data_dir, classes, boxes=boxes, pictures=args.pictures))
    if args.gt_list:
        found = sweep_list(save_dir / "cam", args.gt_list, data.data_dir, len(classes), args.alpha)
        print(write_sweep(save_dir / "thresholds.json", found))


if __name__ == "__main__":
    run(main)
