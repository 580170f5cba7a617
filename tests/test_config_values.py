"""Single values: what is read, what is refused and in which words; overrides; contradictions."""

import re

import pytest
from test_config import get, refusal, write

from spml.config import ConfigError, load_config, save_config
from spml.config.released import RELATIONS

ACCEPTED = [
    ("train.max_iteration", "3e4", 30000),
    ("train.max_iteration", "'4000'", 4000),
    ("train.max_iteration", "4000.0", 4000),
    ("train.base_lr", "3e-3", 0.003),
    ("train.base_lr", "1", 1.0),
    ("train.random_crop", "no", False),
    ("train.random_crop", "'False'", False),
    ("train.crop_size", "96,128", [96, 128]),
    ("train.crop_size", "['96', 128]", [96, 128]),
    ("train.crop_size", "'[96, 128]'", [96, 128]),
    ("train.crop_size", "'(96, 128)'", [96, 128]),
    ("train.decay_iterations", "", []),
    ("train.decay_iterations", "10", [10]),
    ("train.decay_iterations", "10,20", [10, 20]),
    ("train.decay_iterations", "[10, '20']", [10, 20]),
    ("train.amp", "off", "off"),
    ("train.amp", "'off'", "off"),
    ("train.amp", "bf16", "bf16"),
    ("train.task", "", "spml"),
    ("train.task", "segmentation", "segmentation"),
    ("dataset.background", "none", None),
    ("dataset.background", "", None),
    ("dataset.background", "20", 20),
    ("losses.image_similarity.weight", "3", 3.0),
    ("losses.image_similarity.concentration", "'8'", 8.0),
    ("losses.propagated_cross_entropy.threshold", "-1", -1.0),
    ("expected.mean_iou", "47.2", 47.2),
    ("dataset.unlabelled_index", "255", 255),
    ("dataset.unlabelled_index", "", None),
    ("dataset.dataset", "shapes", "shapes"),
    ("dataset.data_dir", "/data/with space #1: x", "/data/with space #1: x"),
    ("dataset.data_dir", "2012", "2012"),
    ("dataset.data_dir", "'quoted'", "quoted"),
    ("dataset.data_dir", "", ""),
    ("dataset.data_dir", "a=b", "a=b"),
    ("network.pretrained", "null", ""),
    ("gpus", "0,1", "0,1"),
    ("gpus", "3", "3"),
    ("gpus", "[0, 2]", "0,2"),
    ("gpus", "", ""),
    ("test.scales", "0.5,1,1.5", [0.5, 1.0, 1.5]),
    ("test.scales", "2", [2.0]),
    ("test.scales", "[1]", [1.0]),
    ("test.scales", "[]", []),
    ("network.backbone_types", "timm:resnet18", "timm:resnet18"),
    ("test.image_size", "-1", -1),
    ("test.image_size", "0", 0),
    ("network.pixel_means", "[0, 0, 0]", [0.0, 0.0, 0.0]),
    *(
        ("network.backbone_types", f"panoptic_{b}", f"panoptic_{b}")
        for b in ("deeplab_50", "pspnet_50", "deeplab_tiny")
    ),
]


@pytest.mark.parametrize(("name", "given", "value"), ACCEPTED)
def test_accepted_values(name, given, value):
    got = get(load_config(None, [f"{name}={given}"]), name)
    assert got == value and type(got) is type(value)


REFUSED = [
    ("train.max_iteration", "many", "an integer >= 1"),
    ("train.max_iteration", "1.5", "an integer >= 1"),
    ("train.max_iteration", "0", "an integer >= 1"),
    ("train.max_iteration", "true", "an integer >= 1"),
    ("train.max_iteration", "[1]", "an integer >= 1"),
    ("train.max_iteration", ".inf", "an integer >= 1"),
    ("train.max_iteration", "1e400", "an integer >= 1"),
    ("train.max_iteration", "", "an integer >= 1"),
    ("train.base_lr", "fast", "a number > 0"),
    ("train.base_lr", "0", "a number > 0"),
    ("train.base_lr", "-1", "a number > 0"),
    ("train.base_lr", ".nan", "a number > 0"),
    ("train.base_lr", "false", "a number > 0"),
    ("train.momentum", "1", "a number >= 0 and < 1"),
    ("train.random_crop", "1", "true or false"),
    ("train.random_crop", "maybe", "true or false"),
    ("train.random_crop", "", "true or false"),
    ("train.crop_size", "512", r"\[h, w\]"),
    ("train.crop_size", "[1, 2, 3]", r"\[h, w\]"),
    ("train.crop_size", "[0, 512]", r"\[h, w\]"),
    ("train.crop_size", "{h: 1}", r"\[h, w\]"),
    ("train.batch_size", "0", "an integer >= 1"),
    ("train.seed", "-1", "an integer in 0..4294967295"),
    ("train.amp", "fp16", "one of off, bf16"),
    ("train.amp", "true", "one of off, bf16"),
    ("train.amp", "[off]", "one of off, bf16"),
    ("train.lr_policy", "cosine", "one of poly, step"),
    ("train.sem_occ_loss_types", "false", "one of segsort, none"),
    ("train.sem_ann_concentration", "-6", "a number >= 0"),
    ("train.task", "5", "one of spml, segmentation, classifier, cam, seam, ppc"),
    ("train.task", "[spml]", "one of spml, segmentation, classifier, cam, seam, ppc"),
    ("losses", "5", r"losses by name, such as \{cross_entropy: \{weight: 1\}\}, or none"),
    ("losses", "", r"losses by name"),
    ("losses.image_similarity", "5", r"settings such as \{weight: 1\}, or none"),
    ("losses.image_similarity.weight", "-1", "a number >= 0"),
    ("losses.image_similarity.weight", "none", "a number >= 0"),
    ("losses.image_similarity.concentration", "0", "a number > 0 and < 500"),
    ("losses.feature_affinity.threshold", "1", "a number >= -1 and < 1"),
    ("network.backbone_types", "timm:", "one of panoptic_deeplab_101, .* or timm:<name>"),
    ("dataset.background", "-1", r"an integer in 0\.\.253, or none"),
    ("dataset.background", "off", r"an integer in 0\.\.253, or none"),
    ("expected.mean_iou", "0", "a number > 0 and < 100, or nothing"),
    ("dataset.num_classes", "1", r"an integer in 2\.\.254"),
    ("dataset.num_classes", "255", r"an integer in 2\.\.254"),
    ("dataset.semantic_ignore_index", "0", r"an integer in 255\.\.255"),
    ("dataset.unlabelled_index", "256", r"an integer in 0\.\.255, or nothing"),
    ("dataset.dataset", "", "VOC2012, Densepose or"),
    ("network.label_divisor", "255", "an integer >= 256"),
    ("network.pixel_stds", "[1, 1, 0]", "a list of three, each a number > 0"),
    ("network.pixel_means", "0.5", "a list of three"),
    ("network.pixel_means", "[123.7, 116.3, 103.5]", "a list of three, each a number >= 0 and < 2"),
    ("network.pixel_stds", "[58, 57, 57]", "a list of three, each a number > 0 and < 2"),
    ("train.img_sim_concentration", "600", "a number >= 0 and < 500"),
    ("train.memory_bank_size", "1e30", "an integer in 0..1000000"),
    ("num_threads", "-1", "an integer in 0..1024"),
    ("train.image_size", "1e6", "an integer in 0..32767"),
    ("test.scales", "1,0", "a list, each a number > 0"),
    ("test.image_size", "-2", "an integer in -1..32767"),
    ("gpus", "all", "GPU indexes"),
    ("gpus", "true", "GPU indexes"),
]


@pytest.mark.parametrize(("name", "given", "expected"), REFUSED)
def test_refused_values_name_key_expectation_and_value(name, given, expected):
    message = refusal(f"{name}={given}")
    assert re.match(rf"{re.escape(name)}: expected {expected}.*, got .+, in override '{re.escape(name)}=", message)


def test_a_path_in_a_file_must_be_text(tmp_path):
    with pytest.raises(ConfigError, match=r"dataset.data_dir: expected a path .* got 2012 \(int\), in .*x\.yaml"):
        load_config(write(tmp_path, "dataset: {data_dir: 2012}"))


@pytest.mark.parametrize(
    ("override", "meant"),
    [
        ("dataset.dataset=densepose", "Densepose"),
        ("dataset.dataset=voc2012", "VOC2012"),
        ("network.backbone_types=panoptic_deplab_101", "panoptic_deeplab_101"),
        ("train.sem_ann_loss_types=SegSort", "segsort"),
        ("network.prediction_types=softmax", "softmax_classifier"),
        ("train.max_iteratoin=5", "train.max_iteration"),
        ("network.embeding_dim=5", "network.embedding_dim"),
        ("train.embedding_dim=5", "network.embedding_dim"),
        ("embedding_dim=5", "network.embedding_dim"),
        ("trian.base_lr=5", "train.base_lr"),
        ("train.sem_ann_losstypes=none", "train.sem_ann_loss_types"),
        ("train.task=segmentatoin", "segmentation"),
        ("losses.image_simlarity.weight=1", "losses.image_similarity.weight"),
        ("losses.image_simlarity={weight: 1}", "losses.image_similarity"),
        ("losses.image_simlarity=none", "losses.image_similarity"),
        ("losses={crossentropy: {weight: 1}}", "losses.cross_entropy"),
        ("losses.image_similarity={wieght: 1}", "losses.image_similarity.weight"),
        ("losses.image_similarity.k=1", "losses.image_similarity.weight"),
        ("losses.cross_entropy.weight.x=1", "losses.cross_entropy.weight"),
        ("losses.cross_entropy.concentration=1", "losses.cross_entropy.weight"),
        ("loses.cross_entropy=none", "losses.cross_entropy"),
        ("loses.image_similarity.weight=1", "losses.image_similarity.weight"),
        ("image_similarity.weight=1", "losses.image_similarity.weight"),
        ("seam.second_view_scal=0.5", "seam.second_view_scale"),
        ("expected.mean_iuo=1", "expected.mean_iou"),
        ("num_thread=5", "num_threads"),
        ("test.num_threads=5", "num_threads"),
    ],
)
def test_did_you_mean(override, meant):
    assert refusal(override).endswith(f"did you mean {meant}?")


def test_unknown_key_far_from_all_still_gets_the_nearest_and_its_value():
    message = refusal("qqq.zzz=5")
    assert message.startswith("qqq.zzz: unknown key") and "got 5 (int)" in message and "did you mean" in message


@pytest.mark.parametrize("override", ["", "train", "=5", "train.seed"])
def test_override_without_key_or_value(override):
    assert refusal(override).startswith(f"override {override!r}: expected section.key=value")


@pytest.mark.parametrize("override", ["train=5", "base=x.yaml", "train.=5", "train.seed.x=5"])
def test_override_of_no_key(override):
    assert f"in override {override!r}" in refusal(override)


def test_override_with_broken_yaml_names_itself():
    assert refusal("train.crop_size=[1, 2").startswith("override 'train.crop_size=[1, 2', line 1")


def test_the_last_override_wins_and_one_string_is_one_override():
    assert load_config(None, ["train.seed=1", "train.seed=2"]).train.seed == 2
    assert load_config(None, " train.seed = 3 ").train.seed == 3


CONTRADICTIONS = [
    (["train.begin_iteration=100", "train.max_iteration=100"], "train.begin_iteration"),
    (["train.warmup_iteration=11", "train.max_iteration=10"], "train.warmup_iteration"),
    (["train.warmup_iteration=30001"], "train.warmup_iteration"),
    (["train.lr_policy=step"], "train.decay_iterations"),
    (["train.decay_iterations=20,10"], "train.decay_iterations"),
    (["train.decay_iterations=10,10"], "train.decay_iterations"),
    (["train.crop_size=20,20"], "network.kmeans_num_clusters"),
    (["network.kmeans_num_clusters=6,129"], "network.kmeans_num_clusters"),
    (["test.crop_size=96,96", "test.stride=96,97"], "test.stride"),
    (["test.stride=512,513"], "test.stride"),
    (["test.stride=512,0"], "test.stride"),
    (["test.crop_size=0,512"], "test.crop_size"),
    (["dataset.dataset=Densepose"], "dataset.num_classes"),
    (["dataset.unlabelled_index=20"], "dataset.unlabelled_index"),
    (["dataset.class_names=[a, b]"], "dataset.num_classes"),
    (["dataset.background=21"], "dataset.background"),
    (["train.feat_aff_loss_types=segsort"], "train.feat_aff_concentration"),
    (["train.img_sim_concentration=0"], "train.img_sim_concentration"),
    (["train.task=spml", "network.prediction_types=cam"], "train.task"),
    (["train.task=cam", "network.prediction_types=seam"], "train.task"),
    (["expected.tolerance=1"], "expected.mean_iou"),
    ([f"train.{short}_loss_types=none" for short in RELATIONS], "train.classifier_gradient"),
    ([f"train.{short}_loss_weight=0" for short in RELATIONS], "train.classifier_gradient"),
    (["losses=none"], "losses"),
    (["losses=none", "train.classifier_gradient=true"], "losses"),
    (["losses=none", "losses.cross_entropy.weight=1"], "train.classifier_gradient"),
    (["losses=none", "losses.propagated_cross_entropy.weight=1"], "train.classifier_gradient"),
]


@pytest.mark.parametrize(("overrides", "name"), CONTRADICTIONS)
def test_contradictions(overrides, name):
    assert re.match(
        rf"{re.escape(name)}: expected .+, got .+, in (override|the defaults|the overrides)", refusal(*overrides)
    )


@pytest.mark.parametrize(
    "overrides",
    [
        ["train.warmup_iteration=10", "train.max_iteration=10"],
        ["train.begin_iteration=9", "train.max_iteration=10"],
        ["train.lr_policy=step", "train.decay_iterations=10,20"],
        ["train.crop_size=24,24"],
        ["dataset.dataset=Densepose", "dataset.num_classes=15"],
        ["dataset.unlabelled_index=21"],
        [*(f"train.{short}_loss_types=none" for short in RELATIONS), "train.classifier_gradient=true"],
        [*(f"train.{short}_loss_types=none" for short in RELATIONS), "network.pretrained=model.pth"],
        ["dataset.background=20"],
        ["train.task=cam", "network.prediction_types=cam"],
        ["train.task=segmentation", "network.prediction_types=softmax_classifier"],
        ["losses=none", "network.pretrained=model.pth"],
        ["losses=none", "train.task=cam"],
        ["losses=none", "losses.cross_entropy.weight=1", "train.classifier_gradient=true"],
        ["losses=none", "losses.image_similarity.weight=1"],
    ],
)
def test_neighbours_of_contradictions(overrides):
    load_config(None, overrides)


def test_a_contradiction_names_the_file_that_set_the_key(tmp_path):
    write(tmp_path, "train: {begin_iteration: 50}\n", "a.yaml")
    path = write(tmp_path, "base: a.yaml\ntrain: {max_iteration: 40}\n", "b.yaml")
    with pytest.raises(
        ConfigError, match=r"train\.begin_iteration: expected less than .* \(40\), got 50 \(int\), in .*a"
    ):
        load_config(path)


def test_whole_views():
    assert load_config(None, ["test.crop_size=[0,0]"]).test.stride == [0, 0]


def test_inherited_warmup_and_stride_are_cut_and_reload(tmp_path):
    path = write(tmp_path, "test: {crop_size: [96, 640]}\ntrain: {warmup_iteration: 100}\n")
    config = load_config(path, ["train.max_iteration=4"])
    assert config.train.warmup_iteration == 4 and config.test.stride == [96, 512]
    save_config(config, tmp_path / "saved.yaml")
    assert load_config(tmp_path / "saved.yaml") == config
