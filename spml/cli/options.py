"""Every option of every command, defined once. A command names those it takes: `add(parser, "data_dir", "seed")`."""

import argparse
from typing import Any

from spml.cli.exits import TRACEBACK
from spml.cli.parser import (
    OVERRIDES,
    Parser,
    class_or_none,
    integer_pair,
    name_list,
    named,
    natural,
    number_list,
    positive,
    seed_list,
    word_list,
)

FLAG: dict[str, Any] = {"action": "store_true"}
SWITCH: dict[str, Any] = {"action": argparse.BooleanOptionalAction, "default": None}  # None: the recipe's own
OWN = '"key=value .."'
DEVICE = "cpu, cuda, cuda:<i>, or auto: cuda where there is one"

# By the name under which `main` finds the value: what `argparse.add_argument` takes.
OPTIONS: dict[str, dict[str, Any]] = {
    # what every command with a network takes
    "config": {"required": True, "metavar": "FILE", "help": "YAML file of the experiment, or a shipped config's name"},
    "snapshot_dir": {"required": True, "help": "folder of model-<i>.pth; to read: the newest, or one file"},
    "device": {"default": "auto", "help": DEVICE},
    "save_dir": {"required": True, "help": "folder for all output"},
    "overwrite": {**FLAG, "help": "make existing files again"},
    "resume": {**FLAG, "help": "continue from the newest snapshot of --snapshot_dir"},
    "strict": {**FLAG, "help": "stop if the page on the training data has a warning"},
    # data
    "data_dir": {"help": "folder that the paths of the list are relative to"},
    "data_list": {"metavar": "LIST", "help": "list of samples; replaces the one of the config"},
    "tags": {"help": "file `name class ..` or folder of VOC XML (dataset.tags)"},
    "classes": {"metavar": "FILE", "help": "file of class names, one a line"},
    "num_classes": {"type": int, "help": "number of classes"},
    "background": {"type": class_or_none, "default": 0, "help": "class without tags and boxes; none: no class is"},
    "instance_dir": {"help": "folder of over-segmentations <name>.png"},
    "boxes": {"help": "boxes.json, or a folder of VOC annotations <name>.xml"},
    "cam_dir": {"help": "folder of <name>.npy, a dict of class index to CAM each"},
    "gt_list": {"metavar": "LIST", "help": "`image mask` lines of the training images, a diagnostic"},
    "samples": {"type": positive, "default": 2000, "help": "of each shard"},
    "num_workers": {"type": int, "help": "processes; left out: one a core"},
    "seed": {"type": int, "default": 0, "help": "of all random numbers"},
    "json": {"metavar": "FILE", "help": "also write the result to this file"},
    # k-means and views
    "kmeans_num_clusters": {"type": integer_pair, "metavar": "H,W", "help": "network.kmeans_num_clusters"},
    "label_divisor": {"type": int, "help": "network.label_divisor"},
    "scales": {"type": number_list, "metavar": "S,S,..", "help": "of the image, such as 0.5,0.75,1,1.25,1.5"},
    "flip": {**SWITCH, "help": "also the mirror image of each scale"},
    "max_pixels": {"type": natural, "help": "a view with more is made smaller, which bounds the memory; 0: no bound"},
    # the dense CRF, with the released defaults
    "crf": {**SWITCH, "help": "refine with a dense CRF"},
    "crf_iter_max": {"type": natural, "default": 10, "help": "mean-field iterations"},
    "crf_pos_xy_std": {"type": float, "default": 1, "help": "smoothness kernel, pixels"},
    "crf_pos_w": {"type": float, "default": 3, "help": "weight of the smoothness kernel"},
    "crf_bi_xy_std": {"type": float, "default": 67, "help": "appearance kernel, pixels"},
    "crf_bi_w": {"type": float, "default": 4, "help": "weight of the appearance kernel"},
    "crf_bi_rgb_std": {"type": float, "default": 3, "help": "appearance kernel, grey values"},
    "crf_workers": {"type": natural, "default": 0, "help": "processes; 0: one fewer than the cores"},
    "crf_backend": {"default": "auto", "help": "torch computes on --device; auto: pydensecrf on the CPU, if installed"},
    # prediction and pseudo labels
    "runtime": {"default": "auto", "help": "what computes the network"},
    "predictor": {"default": "retrieval", "help": "source of the labels"},
    "semantic_memory_dir": {"help": "for retrieval: what `spml memory` saved"},
    "approximate": {**FLAG, "help": "retrieve by an index (faiss), for memories of millions"},
    "full_masks": {"metavar": "LIST", "help": "fill from this list of full masks instead"},
    "source": {"required": True, "help": "sets defaults of scales, flip, walk and CRF"},
    "walk_steps": {"type": int, "help": "of the walk; 0: none (affinity, irn: the config's); released: 64, or 1"},
    # labels of CAMs
    "alpha": {"type": float, "help": "the background's score is (1 - max)^alpha (test.cam_alpha)"},
    "threshold": {"type": float, "help": "least score of a label"},
    "box_threshold": {"type": float, "help": "least score of a box label, in the box's own range"},
    "pictures": {"type": int, "default": 16, "help": "images to draw heat maps of, spread over the list"},
    # evaluation
    "pred_dir": {"required": True, "help": "folder of predicted class ids, such as <save_dir>/semantic_gray"},
    "gt_dir": {"help": "folder of ground truth class ids; values from num_classes up, such as 255, do not count"},
    "inst_dir": {"help": "folder of instance ids, with --by_instance; without one: connected patches of a class"},
    "by_instance": {**FLAG, "help": "weight each image's IoU by its instances of the class"},
    "expect": {"type": float, "help": "expected mean IoU in per cent; otherwise exit status 1"},
    "tolerance": {"type": float, "default": 0.5, "help": "points by which the mean IoU may differ from --expect"},
    "labels": {"nargs": "*", "type": named, "default": [], "metavar": "NAME=DIR", "help": "folders of label PNGs"},
    "results": {"nargs": "*", "type": named, "default": [], "metavar": "NAME=FILE", "help": "files of evaluate --json"},
    # annotations and regions made from files
    "kind": {"required": True, "help": "of annotation"},
    "length_ratio": {"type": float, "default": 1.0, "help": "part of each line's length, 0 to 1; 0: its middle"},
    "dilation": {"type": int, "help": "pen radius, pixels"},
    "method": {"default": "hierarchy", "help": "hierarchy: watershed regions, merged"},
    "max_segments": {"type": int, "help": "most regions of an image"},
    "list_out": {"metavar": "LIST", "help": "list to write: `image mask over-segmentation`"},
    "source_dir": {"required": True, "help": "folder of the files to read"},
    "image_dir": {"help": "VOC2012/JPEGImages"},
    "box_dir": {"help": "for boxes: VOC2012/Annotations"},
    "format": {"help": "of the annotations"},
    "images": {**FLAG, "help": "copy the photographs beside the annotations"},
    "core": {"type": float, "default": 0.4, "help": "part of each box, an ellipse, that gets its class"},
    "every": {"type": int, "default": 6, "help": "one line in this many goes to the list for choosing"},
    "part": {"type": int, "default": 0, "metavar": "I", "help": "which of these lines: 0 to EVERY - 1, the folds"},
    "dataset": {"required": True, "help": "which layout and lists"},
    "list_dir": {"help": "folder of the lists; left out: datasets/<dataset>"},
    "experiments": {
        "nargs": "+",
        "default": [],
        "help": "tag box scribble point mask ..; left out: those of the pipelines",
    },
    "num_train": {"type": int, "default": 300, "help": "training images"},
    "num_val": {"type": int, "default": 80, "help": "validation images"},
    "processes": {"type": int, "help": "number of processes that draw"},
    "colour_baseline": {**FLAG, "help": "print the mIoU that colours alone reach"},
    # several runs, and pipelines
    "seeds": {"type": seed_list, "default": [0], "help": "runs to average, such as 0,1,2"},
    "methods": {"type": name_list, "help": "which to run, by commas"},
    "methods_file": {"metavar": "FILE", "help": "YAML of more methods: `name: {overrides: [..], grid: [[..], ..]}`"},
    "annotation": {
        "type": named,
        "action": "append",
        "default": [],
        "metavar": "NAME=LIST",
        "help": "a training list to compare on; may be given again; left out: the config's own",
    },
    "masks": {"metavar": "LIST", "help": "masks of the training images, for full_masks and for mIoU on dev"},
    "tries": {"type": positive, "default": 1, "help": "settings tried for each method; 1: none is chosen"},
    "folds": {"type": positive, "default": 1, "help": "of a cross-validation that chooses; 1: every sixth image does"},
    "snapshots": {"metavar": "DIR", "help": "gets everything; left out: snapshots/<the config's name, or FOLDER_KIND>"},
    "grid": {"type": integer_pair, "metavar": "H,W", "help": "k-means grid outside training; released: 12,12"},
    "gpus": {"type": positive, "default": 1, "help": "processes of commands with a network, one a GPU; released: 4"},
    "dry": {**FLAG, "help": "print the commands and run none"},
    "from": {"metavar": "STAGE", "help": "the first stage to run; earlier ones must be complete"},
    "only": {"nargs": "+", "metavar": "STAGE", "help": "run only these stages, in the order of the pipeline"},
    "classifier": {"type": word_list, "default": [], "metavar": OWN, "help": "for the classifier's training alone"},
    "cam": {"type": word_list, "default": [], "metavar": OWN, "help": "for the CAM network and its maps alone"},
    "cam_config": {"metavar": "FILE", "help": "config of the CAM network; left out: --config with `cam` for `tag`"},
    "affinity": {"help": "labels of CAMs by AffinityNet or IRN, not by spreading or by the embedding's walk"},
    "affinity_config": {"metavar": "FILE", "help": "its config; left out: --config with its name for `tag`"},
    "rounds": {"type": positive, "default": 1, "help": "2: train anew on the pseudo labels, and so on"},
    "released_evaluation": {**FLAG, "help": "the last evaluation as the release's scripts do it"},
}  # fmt: skip
FLAGS = {"config": ("--config", "--cfg_path")}  # of options with two names

SEGMENTS = ("kmeans_num_clusters", "label_divisor")
CRF = ("crf_iter_max", "crf_pos_xy_std", "crf_pos_w", "crf_bi_xy_std", "crf_bi_w", "crf_bi_rgb_std")


def add(parser: Parser | argparse._MutuallyExclusiveGroup, *names: str, **changes: Any) -> None:
    """Give a parser, or a group of which one may be given, options of OPTIONS, with `changes` (help, default, ..)."""
    for name in names:
        flags = FLAGS.get(name, (f"--{name}",))
        parser.add_argument(*flags, dest=name, **{**OPTIONS[name], **changes})


def add_config(parser: Parser, **changes: Any) -> None:
    """Add the config, `key=value` at the end of the line, and the device."""
    add(parser, "config", **changes)
    add(parser, "device")
    parser.takes_overrides = True
    parser.epilog = OVERRIDES


def add_network(parser: Parser, **snapshot: Any) -> None:
    """Add the options of every command with a network: `--config --snapshot_dir --data_dir --data_list --device`.

    Args:
        snapshot: changes of `--snapshot_dir`, as in `add`.
    """
    add_config(parser)
    add(parser, "snapshot_dir", **snapshot)
    add(parser, "data_dir", help="folder that the list's paths are relative to (dataset.data_dir)")
    add(parser, "data_list")


def add_traceback(parser: Parser) -> None:
    """`--traceback`, which `spml.cli.exits` reads from the command line itself."""
    parser.add_argument(TRACEBACK, action="store_true", help="with a mistake's line, show where it was found")
