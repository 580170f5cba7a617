"""Config: what is accepted, what is refused and in which words, bases, overrides, round trip, shipped files."""

import re
from pathlib import Path

import pytest
import yaml

from spml.cli import UserError
from spml.config import ConfigError, load_config, save_config
from spml.config_keys import COMPATIBILITY, KEYS, RELATIONS

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = sorted((ROOT / "configs").rglob("*.yaml"))

# A file as the release's tag script fills it in: numbers as text where YAML 1.1 sees text, options left as words.
STAGE1 = """---
gpus: "0,1,2,3"
num_threads: 4
dataset:
  num_classes: 21
  semantic_ignore_index: 255
  dataset: VOC2012
  data_dir: "DATA_ROOT"
  train_data_list: "TRAIN_DATA_LIST"
  test_data_list: "TEST_DATA_LIST"
  color_map_path: "misc/colormapvoc.mat"
network:
  pretrained: "./snapshots/imagenet/trained/resnet-101-cuhk.pth"
  embedding_dim: 64
  label_divisor: 2048
  use_syncbn: {syncbn}
  kmeans_iterations: {rounds}
  kmeans_num_clusters:
    - {grid}
    - {grid}
  backbone_types: panoptic_deeplab_101
  prediction_types: {prediction}
train:
  resume: false
  lr_policy: poly
  begin_iteration: 0
  snapshot_step: 30000
  tensorboard_step: 100
  max_iteration: {steps}
  random_mirror: true
  random_scale: true
  random_crop: true
  warmup_iteration: 100
  base_lr: 3e-3
  weight_decay: 5e-4
  momentum: 0.9
  batch_size: {batch}
  crop_size:
    - 512
    - 512
  memory_bank_size: {bank}
{losses}
test:
  scales:
    - 1
  image_size: 512
  crop_size:
    - 512
    - 512
  stride:
    - 512
    - 512
"""
TAG_LOSSES = {"sem_ann": ("segsort", 6, 0.3), "sem_occ": ("segsort", 8, 0.3), "img_sim": ("segsort", 16, 0.1)}


def released(stage: int) -> str:
    """The stage-1 or stage-2 file; the release leaves the loss settings of the latter as capital words."""
    lines = []
    for short in RELATIONS:
        values = TAG_LOSSES.get(short, ("none", 0, "0.0"))
        for part, value in zip(("loss_types", "concentration", "loss_weight"), values, strict=True):
            lines.append(f"  {short}_{part}: {value if stage == 1 else f'{short}_{part}'.upper()}")
    filled = dict(syncbn="true", rounds=10, grid=6, prediction="segsort", steps=30000, batch=4, bank=2)
    if stage == 2:
        filled = dict(syncbn="USE_SYNCBN", rounds=0, grid=1, prediction="softmax_classifier", steps=4000, batch=16)
        filled["bank"] = "MEMORY_BANK_SIZE"
    return STAGE1.format(losses="\n".join(lines), **filled)


def write(folder: Path, text: str, name: str = "x.yaml") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def get(config, name):
    for part in name.split("."):
        config = config[part]
    return config


def refusal(*overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(None, overrides)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- the tree -----------------------------------------------------------------------------------------------------


def test_defaults_are_complete_valid_and_the_scribble_recipe():
    config = load_config()
    for name, key in KEYS.items():
        assert get(config, name) == key.default
        assert key.kind.read(key.default) == key.default
        assert len(key.help) > 4
    assert config.train.sem_occ_concentration == 12 and config.network.kmeans_num_clusters == [6, 6]
    assert config.train.base_lr == 3e-3 and config.network.label_divisor == 2048
    assert issubclass(ConfigError, UserError)


def test_two_configs_share_no_list():
    one, other = load_config(), load_config()
    one.train.crop_size[0] = 1
    one.dataset.class_names.append("x")
    assert other == load_config()


def test_base_yaml_is_the_defaults_key_by_key_with_their_help():
    text = (ROOT / "configs/base.yaml").read_text(encoding="utf-8")
    given = set()
    for name, value in yaml.safe_load(text).items():
        given |= {f"{name}.{leaf}" for leaf in value} if isinstance(value, dict) else {name}
    assert given == set(KEYS) - {"dataset.class_names"}
    assert load_config(ROOT / "configs/base.yaml") == load_config()
    for name in given:
        assert re.search(rf"^ *{name.split('.')[-1]}:.*  # {re.escape(KEYS[name].help)}$", text, re.M), name


def test_every_key_is_read_by_something():
    sources = [p for p in (ROOT / "spml").rglob("*.py") if not p.name.startswith("config")]
    texts = [path.read_text(encoding="utf-8") for path in sources]
    code = "\n".join(text for text in texts if "config" in text)
    parts = ("loss_types", "concentration", "loss_weight")
    relation_keys = {f"train.{short}_{part}": part for short in RELATIONS for part in parts}
    unread = []
    for name in set(KEYS) - set(COMPATIBILITY):
        leaf = name.split(".")[-1]
        found = re.search(rf"""\.{leaf}\b|["']{leaf}["']""", code)
        if name in relation_keys:  # read for one relation after the other, as train[f"{short}_loss_weight"]
            found = found or re.search(rf"""\}}_{relation_keys[name]}["']""", code)
        if not found:
            unread.append(name)
    assert not unread, f"keys that nothing reads: {sorted(unread)}"


def test_compatibility_keys_are_keys_with_reasons():
    assert set(COMPATIBILITY) <= set(KEYS) and all(COMPATIBILITY.values())


# --- files of the release -------------------------------------------------------------------------------------------


def test_released_stage1_file_loads_as_it_is(tmp_path):
    config = load_config(write(tmp_path, released(1)))
    assert config.gpus == "0,1,2,3"
    assert config.train.base_lr == 3e-3 and config.train.weight_decay == 5e-4
    assert config.network.kmeans_num_clusters == [6, 6] and config.test.scales == [1.0]
    assert [config.train[f"{s}_concentration"] for s in RELATIONS] == [6, 8, 16, 0]
    assert [config.train[f"{s}_loss_types"] for s in RELATIONS] == ["segsort"] * 3 + ["none"]
    assert config.dataset.data_dir == config.dataset.train_data_list == config.dataset.test_data_list == ""


def test_released_stage2_file_loads_with_the_words_its_script_left(tmp_path):
    config = load_config(write(tmp_path, released(2)))
    assert config.network.prediction_types == "softmax_classifier" and config.network.kmeans_iterations == 0
    assert config.network.kmeans_num_clusters == [1, 1] and config.train.batch_size == 16
    assert config.train.memory_bank_size == KEYS["train.memory_bank_size"].default


@pytest.mark.parametrize("word", ["memory_bank_size: MEMORY_BANK_SIZE", "batch_size: BATCH_SIZE"])
def test_words_left_where_they_matter_are_refused(tmp_path, word):
    with pytest.raises(ConfigError, match=f"train.{word.split(':')[0]}: expected an integer.*{word.split()[1]}"):
        load_config(write(tmp_path, f"train:\n  {word}\n"))


def test_old_python_tuple_and_dos_file_and_bom(tmp_path):
    text = "train:\n  crop_size: !!python/tuple [96, 64]\n".replace("\n", "\r\n")
    path = tmp_path / "x.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert load_config(path).train.crop_size == [96, 64]


# --- kinds of values ------------------------------------------------------------------------------------------------

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
    ("train.sem_occ_loss_types", "", "none"),
    ("train.sem_occ_loss_types", "none", "none"),
    ("train.sem_occ_loss_types", "null", "none"),
    ("train.amp", "off", "off"),
    ("train.amp", "'off'", "off"),
    ("train.amp", "bf16", "bf16"),
    ("train.cross_entropy_weight", "", None),
    ("train.cross_entropy_weight", "0.5", 0.5),
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
    ("dataset.num_classes", "1", r"an integer in 2\.\.254"),
    ("dataset.num_classes", "255", r"an integer in 2\.\.254"),
    ("dataset.semantic_ignore_index", "0", r"an integer in 255\.\.255"),
    ("dataset.unlabelled_index", "256", r"an integer in 0\.\.255, or nothing"),
    ("dataset.dataset", "", "VOC2012, Densepose or"),
    ("network.label_divisor", "255", "an integer >= 256"),
    ("network.pixel_stds", "[1, 1, 0]", "a list of three, each a number > 0"),
    ("network.pixel_means", "0.5", "a list of three"),
    ("test.scales", "[]", "a list, each a number > 0"),
    ("test.scales", "1,0", "a list, each a number > 0"),
    ("test.image_size", "-2", "an integer >= -1"),
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
        ("num_thread=5", "num_threads"),
        ("test.num_threads=5", "num_threads"),
    ],
)
def test_did_you_mean(override, meant):
    assert refusal(override).endswith(f"did you mean {meant}?")


def test_unknown_key_far_from_all_still_gets_the_nearest_and_its_value():
    message = refusal("qqq.zzz=5")
    assert message.startswith("qqq.zzz: unknown key") and "got 5 (int)" in message and "did you mean" in message


# --- files ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("train:\n  base_lrr: 1\n", r"train\.base_lrr: unknown key.*x\.yaml; did you mean train\.base_lr\?"),
        ("trian:\n  base_lr: 1\n", r"trian\.base_lr: unknown key.*x\.yaml; did you mean train\.base_lr"),
        ("trian: {}\n", r"trian: unknown key.*x\.yaml; did you mean "),
        ("train: 5\n", r"train: expected a section with keys, got 5 \(int\), in .*x\.yaml"),
        ("train: [base_lr]\n", r"train: expected a section"),
        ("train:\n  base_lr: {a: 1}\n", r"train\.base_lr: expected a number > 0, got \{'a': 1\} \(dict\)"),
        ("train.base_lr: 1\n", r"train\.base_lr: expected `base_lr` inside a section `train:`"),
        ("train:\n  off: 1\n", r"train\.False: unknown key"),
        ("- 1\n", r"x\.yaml: expected sections .* got \[1\] \(list\)"),
        ("train: [\n", r"x\.yaml, line 2, column 1: expected YAML"),
        ("train:\n\tbase_lr: 1\n", r"x\.yaml, line 2, column 1: expected YAML"),
        ("train:\n  seed: 1\n  seed: 2\n", r"x\.yaml, line 3, column 3: expected YAML, got: key 'seed' stands twice"),
        ("train: !!python/object/apply:os.getcwd []\n", r"x\.yaml, line 1, .*expected YAML"),
        ("train: {seed: 2020-13-45}\n", r"expected"),
        ("? [a]\n: 1\n", r"expected"),
        ("? {a: 1}\n: 1\n", r"expected YAML"),
        ("base: 5\n", r"base: expected the path of a YAML file, got 5"),
        ("train: {seed: " + "9" * 200 + "}\n", r"train\.seed: expected an integer.*\.\.\. \(int\)"),
    ],
)
def test_bad_files_are_named(tmp_path, text, pattern):
    with pytest.raises(ConfigError, match=pattern) as caught:
        load_config(write(tmp_path, text))
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600


@pytest.mark.parametrize("text", ["", "# nothing\n", "train:\n", "base:\n", "---\n"])
def test_files_that_say_nothing(tmp_path, text):
    assert load_config(write(tmp_path, text)) == load_config()


def test_unreadable_files(tmp_path):
    with pytest.raises(ConfigError, match=r"gone\.yaml: expected a readable text file, got: No such file"):
        load_config(tmp_path / "gone.yaml")
    with pytest.raises(ConfigError, match="expected a readable text file"):
        load_config(tmp_path)
    (tmp_path / "b.yaml").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(ConfigError, match=r"b\.yaml: expected a readable text file"):
        load_config(tmp_path / "b.yaml")
    path = write(tmp_path, "base: nowhere.yaml\n")
    with pytest.raises(ConfigError, match=r"nowhere\.yaml, named as base in .*x\.yaml: expected"):
        load_config(path)


def test_bases_chain_relative_to_the_file_that_names_them(tmp_path):
    write(tmp_path, "train: {seed: 1, batch_size: 1, max_iteration: 200}\n", "a.yaml")
    write(tmp_path, "base: ../a.yaml\ntrain: {seed: 2, batch_size: 2}\n", "sub/b.yaml")
    path = write(tmp_path, "base: ../sub/b.yaml\ntrain: {seed: 3}\n", "other/c.yaml")
    train = load_config(path, ["train.base_lr=1e-2"]).train
    assert (train.seed, train.batch_size, train.max_iteration, train.base_lr) == (3, 2, 200, 0.01)


def test_an_error_in_a_base_names_the_base(tmp_path):
    write(tmp_path, "train: {seed: x}\n", "a.yaml")
    with pytest.raises(ConfigError, match=r"train\.seed: .*, in .*a\.yaml"):
        load_config(write(tmp_path, "base: a.yaml\ntrain: {seed: 3}\n", "b.yaml"))


@pytest.mark.parametrize("length", [1, 2, 3])
def test_circles_of_bases(tmp_path, length):
    for i in range(length):
        write(tmp_path, f"base: {(i + 1) % length}.yaml\n", f"{i}.yaml")
    with pytest.raises(ConfigError, match=r"base: expected a chain that ends.*0\.yaml -> .*0\.yaml$"):
        load_config(tmp_path / "0.yaml")


# --- overrides ------------------------------------------------------------------------------------------------------


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


# --- contradictions -------------------------------------------------------------------------------------------------

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
    (["dataset.dataset=Densepose"], "dataset.num_classes"),
    (["dataset.unlabelled_index=20"], "dataset.unlabelled_index"),
    (["dataset.class_names=[a, b]"], "dataset.num_classes"),
    (["train.feat_aff_loss_types=segsort"], "train.feat_aff_concentration"),
    ([f"train.{short}_loss_types=none" for short in RELATIONS], "train.classifier_gradient"),
    ([f"train.{short}_loss_weight=0" for short in RELATIONS], "train.classifier_gradient"),
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


def test_inherited_warmup_and_stride_are_cut_and_reload(tmp_path):
    path = write(tmp_path, "test: {crop_size: [96, 640]}\ntrain: {warmup_iteration: 100}\n")
    config = load_config(path, ["train.max_iteration=4"])
    assert config.train.warmup_iteration == 4 and config.test.stride == [96, 512]
    save_config(config, tmp_path / "saved.yaml")
    assert load_config(tmp_path / "saved.yaml") == config


# --- class names ----------------------------------------------------------------------------------------------------


def test_classes_file_gives_names_and_number(tmp_path, monkeypatch):
    write(tmp_path, "background\r\n\r\n ellipse \r\nTV monitor\r\n", "data/names.txt")
    path = write(tmp_path, "dataset: {classes: ../data/names.txt, dataset: Densepose}\n", "configs/x.yaml")
    config = load_config(path)
    assert config.dataset.class_names == ["background", "ellipse", "TV monitor"] and config.dataset.num_classes == 3
    monkeypatch.chdir(tmp_path)
    config = load_config(None, ["dataset.classes=data/names.txt"])
    assert config.dataset.num_classes == 3 and config.dataset.classes == "data/names.txt"


def test_the_working_folder_goes_before_the_file_s(tmp_path, monkeypatch):
    write(tmp_path, "a\nb\n", "here/names.txt")
    write(tmp_path, "a\nb\nc\n", "there/names.txt")
    path = write(tmp_path, "dataset: {classes: names.txt}\n", "there/x.yaml")
    assert load_config(path).dataset.num_classes == 3
    monkeypatch.chdir(tmp_path / "here")
    assert load_config(path).dataset.num_classes == 2


def test_saved_config_keeps_names_when_their_file_has_gone(tmp_path):
    names = write(tmp_path, "a\nb\nc\n", "names.txt")
    config = load_config(None, [f"dataset.classes={names}"])
    save_config(config, tmp_path / "saved.yaml")
    names.unlink()
    assert load_config(tmp_path / "saved.yaml") == config
    with pytest.raises(ConfigError, match=r"dataset\.classes: expected a text file of class names, got .*No such file"):
        load_config(None, [f"dataset.classes={names}"])


@pytest.mark.parametrize(("text", "got"), [("", "0 names"), ("one\n", "1 names"), ("a\nb\na\n", "3 names, 'a' twice")])
def test_bad_classes_files(tmp_path, text, got):
    with pytest.raises(ConfigError, match=rf"dataset\.classes: expected 2\.\.254 different class names .* got {got}"):
        load_config(None, [f"dataset.classes={write(tmp_path, text, 'n.txt')}"])


# --- saving and the shipped files -----------------------------------------------------------------------------------


def test_round_trip_is_exact_and_leaves_no_other_file(tmp_path):
    config = load_config(None, ["train.base_lr=1e-7", "dataset.data_dir=/dätä/off", "train.amp=bf16", "gpus=0"])
    save_config(config, tmp_path / "config.yaml")
    assert load_config(tmp_path / "config.yaml") == config
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]
    save_config(load_config(), tmp_path / "config.yaml")
    assert load_config(tmp_path / "config.yaml") == load_config()
    assert "!!" not in (tmp_path / "config.yaml").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: str(path.relative_to(ROOT)))
def test_shipped_configs(path, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    overrides = []
    classes = (tree.get("dataset") or {}).get("classes")
    if classes and not (ROOT / classes).is_file():  # made by a script that this test does not run
        overrides = [f"dataset.classes={write(tmp_path, 'background' + chr(10) + 'thing' + chr(10), 'names.txt')}"]
    config = load_config(path, overrides)
    save_config(config, tmp_path / "saved.yaml")
    assert load_config(tmp_path / "saved.yaml") == config
    if path.name != "base.yaml":
        head = path.read_text(encoding="utf-8").split("\nbase:")[0].lower()
        assert head.startswith("#") and all(word in head for word in ("command", "hours", "miou")), path


RECIPES = [
    ("voc12/tag", 21, [0.3, 0.3, 0.1, 0], [6, 8, 16, 0], 30000, 64, 2, "hed"),
    ("voc12/box", 21, [0.3, 0.3, 0.1, 0], [6, 8, 16, 0], 30000, 64, 2, "hed"),
    ("voc12/scribble", 21, [1, 0.5, 0.1, 0], [6, 12, 16, 0], 30000, 64, 2, "hed"),
    ("voc12/point", 21, [0.1, 0.1, 0.1, 0], [6, 8, 16, 0], 30000, 64, 2, "hed"),
    ("densepose/point", 15, [1, 0, 0.1, 0.5], [6, 0, 16, 12], 45000, 32, 0, "pmi"),
]


@pytest.mark.parametrize(("name", "classes", "weights", "concentrations", "steps", "dim", "bank", "cut"), RECIPES)
def test_released_recipes(name, classes, weights, concentrations, steps, dim, bank, cut):
    config = load_config(ROOT / f"configs/{name}.yaml")
    train = config.train
    assert [train[f"{short}_loss_weight"] for short in RELATIONS] == weights
    active = [train[f"{short}_loss_types"] == "segsort" for short in RELATIONS]
    assert active == [weight > 0 for weight in weights]
    got = [train[f"{s}_concentration"] for s in RELATIONS]
    assert got == concentrations
    assert (train.max_iteration, config.network.embedding_dim, train.memory_bank_size) == (steps, dim, bank)
    assert config.dataset.num_classes == classes and cut in config.dataset.train_data_list
    assert config.network.backbone_types.startswith("panoptic_pspnet" if "dense" in name else "panoptic_deeplab")
