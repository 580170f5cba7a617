"""The tree of settings: every key with its default, the kind of value it takes and what it means.

Each section is a dataclass. Losses and tasks define their own settings in the files of `spml/losses` and `spml/tasks`.
`spml.config.released` translates keys of released files that have another name here.
"""

from dataclasses import dataclass

from spml.config import tables
from spml.config.kinds import (
    BOOLEAN,
    DATASET,
    GPUS,
    NAMES,
    PATH,
    TEXT,
    choice,
    integer,
    name_of,
    number,
    optional,
    pair,
    sequence,
)
from spml.config.settings import Key, keys_of, setting

AMP = choice("off", "bf16", aliases={False: "off"})  # YAML 1.1 reads a bare off as false
BACKBONE = name_of("a name of spml.models.BACKBONES", tables.backbones, prefix="timm:")
HEAD = name_of("a name of spml.models.HEADS", tables.heads)
TASK = name_of("a name of spml.tasks.TABLE", tables.tasks)
MEANS = sequence(number(low=0, below=2), "a list of three", length=3)  # of images in [0, 1], not 0..255
STDS = sequence(number(above=0, below=2), "a list of three", length=3)
SCALES = sequence(number(above=0), "a list")
STEPS = sequence(integer(0), "a list")
LEVELS = sequence(integer(0), "a list")
PREDICTION_TYPES = ("segsort", "softmax_classifier", "cam", "seam")


@dataclass
class Top:
    """Keys outside of sections."""

    gpus: str = setting("", GPUS, "accepted from released files; choose with --device or torchrun")
    num_threads: int = setting(4, integer(0, 1024), "worker processes of the data loader; 0 loads in the main process")


@dataclass
class Dataset:
    """`dataset:`, the data."""

    num_classes: int = setting(21, integer(2, 254), "classes with the background; follows from dataset.classes")
    semantic_ignore_index: int = setting(255, integer(255, 255), "accepted from released files; only 255 is possible")
    dataset: str = setting("own", DATASET, "VOC2012, Densepose (its model and mirroring), or your own name")
    data_dir: str = setting("", PATH, "where the paths of the lists start; --data_dir overrides it")
    train_data_list: str = setting("", PATH, "image, label and over-segmentation per line; --data_list overrides it")
    test_data_list: str = setting("", PATH, "the same for prediction and evaluation")
    color_map_path: str = setting("", PATH, "accepted from released files; the palette is built in")
    classes: str = setting("", PATH, "file of class names, one a line, the class of label 0 first")
    class_names: list[str] = setting([], NAMES, "the lines of dataset.classes; save_config writes it, nobody by hand")
    background: int | None = setting(
        0, optional(integer(0, 253), "none"), "the class that is no object; none: every class is one"
    )
    tags: str = setting("", PATH, "for CAMs: `name class ..` lines, or folder of VOC XML; empty: from labels")
    unlabelled_index: int | None = setting(None, optional(integer(0, 255)), "label value to read as unlabelled")


@dataclass
class Network:
    """`network:`, the networks that compute the embedding and the classes."""

    pretrained: str = setting(
        "", PATH, "weights to start from: a file, package:efficientnet_lite0, or timm; empty starts at random"
    )
    embedding_dim: int = setting(64, integer(1), "channels D of the embedding")
    label_divisor: int = setting(2048, integer(256), "accepted from released files; segments need no such number")
    use_syncbn: bool = setting(True, BOOLEAN, "batch statistics over all processes")
    kmeans_iterations: int = setting(10, integer(0), "rounds of spherical k-means")
    kmeans_num_clusters: list[int] = setting([6, 6], pair(1), "grid of initial clusters in training")
    backbone_types: str = setting("panoptic_deeplab_101", BACKBONE, "a name of spml.models.BACKBONES, or timm:<name>")
    output_stride: int | None = setting(
        None, optional(integer(1, 64)), "of the coarsest map, for timm:<name>; empty: the backbone's own"
    )
    levels: list[int] = setting([], LEVELS, "maps of the backbone that the head gets, from 0, the finest; empty: all")
    freeze_backbone: bool = setting(False, BOOLEAN, "the backbone learns nothing, batch norms included")
    freeze_bn: bool = setting(False, BOOLEAN, "the backbone's batch norms keep their statistics")
    backbone_lr: float = setting(1.0, number(above=0), "learning rate of the backbone, as a multiple of train.base_lr")
    head: str | None = setting(None, optional(HEAD), "a name of spml.models.HEADS; empty: the backbone's own")
    joined_dim: int = setting(128, integer(1), "inner channels of the heads joined, unet and deeplab_v3plus")
    prediction_types: str = setting(
        "segsort", choice(*PREDICTION_TYPES), "stage 1 (segsort), stage 2 (softmax_classifier), or a network of CAMs"
    )
    pixel_means: list[float] | None = setting(
        None, optional(MEANS), "RGB mean of images in [0, 1]; empty: as the backbone's weights were trained"
    )
    pixel_stds: list[float] | None = setting(
        None, optional(STDS), "RGB deviation of images in [0, 1]; empty: as the backbone's weights were trained"
    )
    aspp_feature_dim: int = setting(512, integer(1), "accepted from released files; the head has no such layer")
    pspp_feature_dim: int = setting(512, integer(1), "accepted from released files; the width is always 512")


@dataclass
class Train:
    """`train:`, the training."""

    task: str | None = setting(
        None, optional(TASK), "a name of spml.tasks.TABLE, such as spml; empty: as network.prediction_types says"
    )
    resume: bool = setting(False, BOOLEAN, "go on from the last snapshot, as --resume")
    lr_policy: str = setting("poly", choice("poly", "step"), "how the learning rate falls")
    begin_iteration: int = setting(0, integer(0), "first step")
    snapshot_step: int = setting(10000, integer(1), "steps between snapshots; the last step saves always")
    tensorboard_step: int = setting(100, integer(1), "steps between TensorBoard records")
    validation_step: int = setting(0, integer(0), "steps between validations on dataset.test_data_list; 0: none")
    log_step: int = setting(10, integer(1), "steps between updates of the progress line")
    max_iteration: int = setting(30000, integer(1), "steps of the whole run")
    random_mirror: bool = setting(True, BOOLEAN, "mirror half of the images")
    random_scale: bool = setting(
        True, BOOLEAN, "resize at random: by 0.5 to 1.5; the classifier to 2, CAMs and affinities 0.74 to 1.26"
    )
    random_crop: bool = setting(True, BOOLEAN, "crop at a random place")
    shuffle: bool = setting(True, BOOLEAN, "draw the samples in random order")
    image_size: int = setting(0, integer(0, 32767), "longest side before augmentation; 0 keeps the image as it is")
    freeze_stem: bool = setting(True, BOOLEAN, "no updates of stem and res2; false when training from scratch")
    warmup_iteration: int = setting(100, integer(0), "steps of linear warm-up from 0.1 x base_lr")
    decay_iterations: list[int] = setting([], STEPS, "steps at which the rate falls tenfold; lr_policy step only")
    base_lr: float = setting(
        3e-3,
        number(above=0),
        "learning rate; the backbone's is this x backbone_lr, the heads' ten times this, biases' double",
    )
    weight_decay: float = setting(5e-4, number(low=0), "of weights; biases have none")
    momentum: float = setting(0.9, number(low=0, below=1), "of SGD")
    batch_size: int = setting(4, integer(1), "images per process and step")
    crop_size: list[int] = setting([512, 512], pair(1), "training crop")
    memory_bank_size: int = setting(
        2, integer(0, 1000000), "past steps whose segments all relations but image similarity see"
    )
    seed: int = setting(0, integer(0, 2**32 - 1), "of weights, order and augmentation")
    amp: str = setting("off", AMP, "bf16: autocast of the network; losses stay in float32")
    classifier_gradient: bool = setting(False, BOOLEAN, "the losses of the classifier reach the embedding")


@dataclass
class Test:
    """`test:`, the prediction of images."""

    scales: list[float] = setting([], SCALES, "image scales that are averaged; empty: 1, or what a recipe says")
    image_size: int = setting(512, integer(-1, 32767), "longest side of a test image; 0 or -1 keeps it as it is")
    crop_size: list[int] = setting([512, 512], pair(0), "sliding crop; [0, 0]: whole views, without padding")
    stride: list[int] = setting([512, 512], pair(0), "step of the sliding crop")
    flip: bool = setting(False, BOOLEAN, "average with the mirrored image")
    cam_alpha: float = setting(6.0, number(above=0), "of CAMs' labels: the background's score is (1 - max)^cam_alpha")
    neighbours: int = setting(20, integer(1), "nearest prototypes that vote for a segment in retrieval")
    memory_size: int = setting(0, integer(0), "prototypes kept for retrieval; 0 keeps all")


@dataclass
class Pipeline:
    """`pipeline:`, the stages of `spml run`."""

    spread: bool = setting(
        False,
        BOOLEAN,
        "train on labels that frozen features spread from the weak ones, or from the surest pixels of CAMs",
    )
    object_threshold: float = setting(0.8, number(low=0, below=1), "tags spread from CAMs above this, as objects")
    background_threshold: float = setting(0.02, number(low=0, below=1), "and from pixels with none above this")
    classifier: bool = setting(
        True, BOOLEAN, "stage 2, for tags with two rounds of labels; false: the classifier of stage 1 makes the result"
    )
    grid: list[int] | None = setting(None, optional(pair(1)), "of k-means outside training; empty: as released")


@dataclass
class Expected:
    """`expected:`, the figure that a run of this file should give; None if there is none. No file inherits it."""

    split: str = setting("val", TEXT, "the data that the figure is of")
    mean_iou: float | None = setting(None, optional(number(above=0, below=100)), "mIoU in per cent")
    tolerance: float = setting(2.0, number(low=0, below=100), "how far a run may be from it")


SECTIONS: dict[str, type] = {
    "dataset": Dataset,
    "network": Network,
    "train": Train,
    "test": Test,
    "pipeline": Pipeline,
}
KEYS: dict[str, Key] = dict(keys_of(Top))
for _section, _settings in SECTIONS.items():
    KEYS |= {f"{_section}.{_name}": _key for _name, _key in keys_of(_settings).items()}
EXPECTED: dict[str, Key] = {f"expected.{_name}": _key for _name, _key in keys_of(Expected).items()}

# Keys of released files that have no effect here. A test checks that something reads every other key.
COMPATIBILITY = {
    "gpus": "devices come from --device and torchrun",
    "dataset.color_map_path": "the palette is computed",
    "dataset.semantic_ignore_index": "only 255 is possible, and checked",
    "network.label_divisor": "segments are told apart by two numbers, not by one that is made of both",
    "network.aspp_feature_dim": "the release declared it and never used it",
    "network.pspp_feature_dim": "every released snapshot has 512, whatever its file says",
}
