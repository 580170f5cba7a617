"""The tree of settings: every key with its default, the kind of value it takes and what it means.

Defaults are the release's VOC scribble recipe.
"""

from dataclasses import dataclass
from typing import Any

from spml.config.kinds import (
    BOOLEAN,
    DATASET,
    GPUS,
    NAMES,
    PATH,
    Kind,
    choice,
    integer,
    number,
    optional,
    pair,
    sequence,
)


@dataclass(frozen=True)
class Key:
    """One setting: the value it has when nobody says otherwise, what it accepts, and what it means."""

    default: Any
    kind: Kind
    help: str


BACKBONES = tuple(
    f"panoptic_{name}" for name in ("deeplab_101", "deeplab_50", "pspnet_101", "pspnet_50", "deeplab_tiny")
)
LOSS = choice("segsort", "none", aliases={None: "none"})
AMP = choice("off", "bf16", aliases={False: "off"})  # YAML 1.1 reads a bare off as false
MEANS = sequence(number(low=0, below=2), "a list of three", length=3)  # of images in [0, 1], not 0..255
STDS = sequence(number(above=0, below=2), "a list of three", length=3)
SCALES = sequence(number(above=0), "a list", least=1)
STEPS = sequence(integer(0), "a list")

KEYS: dict[str, Key] = {
    "gpus": Key("", GPUS, "accepted from released files; choose with --device or torchrun"),
    "num_threads": Key(4, integer(0, 1024), "worker processes of the data loader; 0 loads in the main process"),
    "dataset.num_classes": Key(21, integer(2, 254), "classes with the background; follows from dataset.classes"),
    "dataset.semantic_ignore_index": Key(255, integer(255, 255), "void and padding; fixed"),
    "dataset.dataset": Key("VOC2012", DATASET, "VOC2012, Densepose (its model and mirroring), or your own name"),
    "dataset.data_dir": Key("", PATH, "where the paths of the lists start; --data_dir goes before"),
    "dataset.train_data_list": Key("", PATH, "image, label and over-segmentation per line; --data_list goes before"),
    "dataset.test_data_list": Key("", PATH, "the same for prediction and evaluation"),
    "dataset.color_map_path": Key("", PATH, "accepted from released files; the palette is built in"),
    "dataset.classes": Key("", PATH, "file of class names, one a line, background first"),
    "dataset.class_names": Key([], NAMES, "the lines of dataset.classes; save_config writes it, nobody by hand"),
    "dataset.tags": Key("", PATH, "for CAMs: `name class ..` lines, or folder of VOC XML; empty: from labels"),
    "dataset.unlabelled_index": Key(None, optional(integer(0, 255)), "label value to read as unlabelled"),
    "network.pretrained": Key("", PATH, "ImageNet weights or a snapshot to start from; empty starts at random"),
    "network.embedding_dim": Key(64, integer(1), "channels D of the embedding"),
    "network.label_divisor": Key(2048, integer(256), "label = semantic * divisor + instance"),
    "network.use_syncbn": Key(True, BOOLEAN, "batch statistics over all processes"),
    "network.kmeans_iterations": Key(10, integer(0), "rounds of spherical k-means"),
    "network.kmeans_num_clusters": Key([6, 6], pair(1), "grid of initial clusters in training"),
    "network.backbone_types": Key(
        "panoptic_deeplab_101", choice(*BACKBONES), "deeplab or pspnet, 101 or 50; deeplab_tiny"
    ),
    "network.prediction_types": Key(
        "segsort", choice("segsort", "softmax_classifier", "cam", "seam"), "stage 1, stage 2, or a network of CAMs"
    ),
    "network.pixel_means": Key([0.485, 0.456, 0.406], MEANS, "RGB mean of images in [0, 1]"),
    "network.pixel_stds": Key([0.229, 0.224, 0.225], STDS, "RGB standard deviation of images in [0, 1]"),
    "network.aspp_feature_dim": Key(512, integer(1), "accepted from released files; the head has no such layer"),
    "network.pspp_feature_dim": Key(512, integer(1), "accepted from released files; the width is always 512"),
    "train.resume": Key(False, BOOLEAN, "go on from the last snapshot, as --resume"),
    "train.lr_policy": Key("poly", choice("poly", "step"), "how the learning rate falls"),
    "train.begin_iteration": Key(0, integer(0), "first step"),
    "train.snapshot_step": Key(10000, integer(1), "steps between snapshots; the last step saves always"),
    "train.tensorboard_step": Key(100, integer(1), "steps between TensorBoard records"),
    "train.log_step": Key(10, integer(1), "steps between updates of the progress line"),
    "train.max_iteration": Key(30000, integer(1), "steps of the whole run"),
    "train.random_mirror": Key(True, BOOLEAN, "mirror half of the images"),
    "train.random_scale": Key(True, BOOLEAN, "resize by 0.5 to 1.5"),
    "train.random_crop": Key(True, BOOLEAN, "crop at a random place"),
    "train.shuffle": Key(True, BOOLEAN, "draw the samples in random order"),
    "train.image_size": Key(0, integer(0, 32767), "longest side before augmentation; 0 keeps the image as it is"),
    "train.freeze_stem": Key(True, BOOLEAN, "no updates of stem and res2; false when training from scratch"),
    "train.warmup_iteration": Key(100, integer(0), "steps of linear warm-up from 0.1 x base_lr"),
    "train.decay_iterations": Key([], STEPS, "steps at which the rate falls tenfold; lr_policy step only"),
    "train.base_lr": Key(3e-3, number(above=0), "learning rate of the backbone's weights"),
    "train.weight_decay": Key(5e-4, number(low=0), "of weights; biases have none"),
    "train.momentum": Key(0.9, number(low=0, below=1), "of SGD"),
    "train.batch_size": Key(4, integer(1), "images per process and step"),
    "train.crop_size": Key([512, 512], pair(1), "training crop"),
    "train.memory_bank_size": Key(2, integer(0, 1000000), "past steps whose segments the annotation loss sees"),
    "train.seed": Key(0, integer(0, 2**32 - 1), "of weights, order and augmentation"),
    "train.amp": Key("off", AMP, "bf16: autocast of the network; losses stay in float32"),
    "train.classifier_gradient": Key(False, BOOLEAN, "the classifier's cross-entropy reaches the embedding"),
    "train.cross_entropy_weight": Key(None, optional(number(low=0)), "empty: sem_ann_loss_weight, as released"),
    "train.second_view_scale": Key(0.3, number(above=0, below=1), "seam: size of the second view"),
    "test.scales": Key([1.0], SCALES, "image scales that are averaged"),
    "test.image_size": Key(512, integer(-1, 32767), "longest side of a test image; 0 or -1 keeps it as it is"),
    "test.crop_size": Key([512, 512], pair(0), "sliding crop; [0, 0]: whole views, without padding"),
    "test.stride": Key([512, 512], pair(0), "step of the sliding crop"),
    "test.flip": Key(False, BOOLEAN, "average with the mirrored image"),
    "test.neighbours": Key(20, integer(1), "nearest prototypes that vote for a segment in retrieval"),
    "test.memory_size": Key(0, integer(0), "prototypes kept for retrieval; 0 keeps all"),
}
RELATIONS = {  # short name: full name, loss type, concentration and weight of the VOC scribble recipe
    "sem_ann": ("semantic annotation", "segsort", 6.0, 1.0),
    "sem_occ": ("semantic co-occurrence", "segsort", 12.0, 0.5),
    "img_sim": ("low-level image similarity", "segsort", 16.0, 0.1),
    "feat_aff": ("feature affinity", "none", 0.0, 0.0),
}
for _short, (_name, _type, _concentration, _weight) in RELATIONS.items():
    KEYS[f"train.{_short}_loss_types"] = Key(_type, LOSS, f"{_name}: segsort or none")
    KEYS[f"train.{_short}_concentration"] = Key(_concentration, number(low=0, below=500), f"{_name}: k of exp(k cos)")
    KEYS[f"train.{_short}_loss_weight"] = Key(_weight, number(low=0), f"{_name}: weight in the sum")
KEYS["train.feat_aff_threshold"] = Key(
    0.95, number(low=-1, below=1), "feature affinity: least cosine to the labelled segment that lends its label"
)
KEYS["train.lent_cross_entropy_weight"] = Key(
    0.0, number(low=0), "feature affinity: the classifier learns lent labels, too; 0: only annotated pixels"
)

# Keys that released files hold and that nothing here needs. Every other key is read by something: a test sees to it.
COMPATIBILITY = {
    "gpus": "devices come from --device and torchrun",
    "dataset.color_map_path": "the palette is computed",
    "dataset.semantic_ignore_index": "only 255 is possible, and checked",
    "network.aspp_feature_dim": "the release declared it and never used it",
    "network.pspp_feature_dim": "every released snapshot has 512, whatever its file says",
}
SECTIONS = tuple(dict.fromkeys(path.split(".")[0] for path in KEYS if "." in path))

# Words that the release's scripts left in the files they filled in: data paths in all of them (they came as options),
# and in stage-2 files the settings of stage-1 losses. Such a word means that the key is not set.
UNFILLED = {
    "dataset.data_dir": "DATA_ROOT",
    "dataset.train_data_list": "TRAIN_DATA_LIST",
    "dataset.test_data_list": "TEST_DATA_LIST",
}
STAGE2_UNFILLED = {
    f"{section}.{name}": name.upper()
    for section, name in (
        ("network", "use_syncbn"),
        ("train", "memory_bank_size"),
        *(("train", f"{s}_{part}") for s in RELATIONS for part in ("loss_types", "concentration", "loss_weight")),
    )
}
