"""Config: the tree of keys, files of the release, round trip, the shipped files."""

import re
from pathlib import Path

import pytest
import yaml

from spml.config import ConfigError, load_config, save_config, tables
from spml.config.keys import COMPATIBILITY, KEYS
from spml.config.released import RELATIONS
from spml.config.settings import defaults_of, keys_of
from spml.errors import UserError

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
  pixel_means: [0.485, 0.456, 0.406]
  pixel_stds: [0.229, 0.224, 0.225]
  aspp_feature_dim: 512
  pspp_feature_dim: 512
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
  shuffle: true
  warmup_iteration: 100
  decay_iterations: []
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


def test_defaults_are_complete_valid_and_the_scribble_recipe():
    config = load_config()
    filled = {
        "train.task": "spml",
        "network.pixel_means": [0.485, 0.456, 0.406],
        "network.pixel_stds": [0.229, 0.224, 0.225],
    }
    for name, key in KEYS.items():
        assert get(config, name) == filled.get(name, key.default)
        assert key.kind.read(key.default) == key.default
        assert len(key.help) > 4
    assert config.losses == {
        "cross_entropy": {"weight": 1.0},
        "semantic_annotation": {"weight": 1.0, "concentration": 6.0},
        "semantic_cooccurrence": {"weight": 0.5, "concentration": 12.0},
        "image_similarity": {"weight": 0.1, "concentration": 16.0},
    }
    assert config.train.base_lr == 3e-3 and config.network.kmeans_num_clusters == [6, 6]
    assert set(config) == {
        "gpus",
        "num_threads",
        "dataset",
        "network",
        "train",
        "losses",
        "test",
        "pipeline",
        "expected",
    }
    assert config.expected is None and config.dataset.background == 0 and config.test.scales == []
    assert issubclass(ConfigError, UserError)


def test_two_configs_share_no_list():
    one, other = load_config(), load_config()
    one.train.crop_size[0] = 1
    one.losses.image_similarity.weight = 9
    one.dataset.class_names.append("x")
    assert other == load_config()


def test_base_yaml_is_the_defaults_key_by_key_with_their_help():
    text = (ROOT / "configs/base.yaml").read_text(encoding="utf-8")
    given = set()
    for name, value in yaml.safe_load(text).items():
        given |= {f"{name}.{leaf}" for leaf in value} if isinstance(value, dict) else {name}
    known = {**KEYS, **tables.task_keys()}
    assert set(KEYS) - {"dataset.class_names"} <= given - {"expected"} <= set(known)
    assert load_config(ROOT / "configs/base.yaml") == load_config()
    for name in given - {"expected"}:
        assert re.search(rf"^ *{name.split('.')[-1]}:.*  # {re.escape(known[name].help)}$", text, re.M), name


def test_base_yaml_explains_losses_as_the_table_does_and_switches_none_on():
    text = (ROOT / "configs/base.yaml").read_text(encoding="utf-8")
    assert "losses" not in yaml.safe_load(text)
    lines = re.findall(r"^#   (\w+): (\{.*\})  # (.*)$", text, re.M)
    assert len(lines) >= 6
    for name, settings, meaning in lines:
        loss = tables.losses()[name]
        assert yaml.safe_load(settings) == defaults_of(loss.settings) and meaning == loss.help


@pytest.mark.parametrize("name", tables.losses())
def test_settings_of_losses(name):
    loss = tables.losses()[name]
    keys = keys_of(loss.settings)
    assert next(iter(keys)) == "weight" and len(loss.help) > 4
    for key in keys.values():
        assert key.kind.read(key.default) == key.default and len(key.help) > 4
    assert load_config(None, ["losses=none", f"losses.{name}.weight=2", "train.classifier_gradient=true"]).losses == {
        name: {**defaults_of(loss.settings), "weight": 2.0}
    }


def test_compatibility_keys_are_keys_with_reasons():
    assert set(COMPATIBILITY) <= set(KEYS) and all(COMPATIBILITY.values())


def test_released_stage1_file_loads_as_it_is(tmp_path):
    config = load_config(write(tmp_path, released(1)))
    assert config.gpus == "0,1,2,3"
    assert config.train.base_lr == 3e-3 and config.train.weight_decay == 5e-4
    assert config.network.kmeans_num_clusters == [6, 6] and config.test.scales == [1.0]
    assert config.losses == {
        "cross_entropy": {"weight": 0.3},
        "semantic_annotation": {"weight": 0.3, "concentration": 6.0},
        "semantic_cooccurrence": {"weight": 0.3, "concentration": 8.0},
        "image_similarity": {"weight": 0.1, "concentration": 16.0},
    }
    assert config.dataset.data_dir == config.dataset.train_data_list == config.dataset.test_data_list == ""


def test_released_stage2_file_loads_with_the_words_its_script_left(tmp_path):
    config = load_config(write(tmp_path, released(2)))
    assert config.network.prediction_types == "softmax_classifier" and config.network.kmeans_iterations == 0
    assert config.network.kmeans_num_clusters == [1, 1] and config.train.batch_size == 16
    assert config.train.memory_bank_size == KEYS["train.memory_bank_size"].default
    assert config.train.task == "classifier" and config.losses == {}


@pytest.mark.parametrize("word", ["memory_bank_size: MEMORY_BANK_SIZE", "batch_size: BATCH_SIZE"])
def test_words_left_where_they_matter_are_refused(tmp_path, word):
    with pytest.raises(ConfigError, match=f"train.{word.split(':')[0]}: expected an integer.*{word.split()[1]}"):
        load_config(write(tmp_path, f"train:\n  {word}\n"))


def test_old_python_tuple_and_dos_file_and_bom(tmp_path):
    text = "train:\n  crop_size: !!python/tuple [96, 64]\n".replace("\n", "\r\n")
    path = tmp_path / "x.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert load_config(path).train.crop_size == [96, 64]


def test_round_trip_is_exact_and_leaves_no_other_file(tmp_path):
    path = tmp_path / "folder" / "config.yaml"
    for overrides in (
        ["train.base_lr=1e-7", "dataset.data_dir=/dätä/off", "train.amp=bf16", "gpus=0", "dataset.background=none"],
        [],
        ["losses=none", "network.pretrained=model.pth"],
        ["losses.image_similarity=none", "losses.feature_affinity.threshold=-1", "test.scales=1"],
        ["train.task=seam", "seam.second_view_scale=0.5", "expected.mean_iou=55.4"],
        ["train.task=segmentation", "losses.cross_entropy.weight=1", "network.backbone_types=timm:resnet18"],
        ["network.prediction_types=softmax_classifier"],
    ):
        config = load_config(None, overrides)
        save_config(config, path)
        assert load_config(path) == config
        assert [path.name for path in path.parent.iterdir()] == ["config.yaml"]
        assert "!!" not in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: str(path.relative_to(ROOT)))
def test_shipped_configs(path, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    try:
        config = load_config(path)
    except ConfigError as error:  # the names of classes come with data that a script makes or that is not here
        assert str(error).startswith("dataset.classes: expected a text file")
        names = write(tmp_path, "background\nthing\n", "names.txt")
        config = load_config(path, [f"dataset.classes={names}"])
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
    values = zip(RELATIONS.values(), weights, concentrations, strict=True)
    relations = {name: {"weight": w, "concentration": k} for name, w, k in values if w}
    if "feature_affinity" in relations:
        relations["feature_affinity"]["threshold"] = 0.95
    assert config.losses == {"cross_entropy": {"weight": weights[0]}, **relations}
    assert (train.max_iteration, config.network.embedding_dim, train.memory_bank_size) == (steps, dim, bank)
    assert config.dataset.num_classes == classes and cut in config.dataset.train_data_list
    assert config.network.backbone_types.startswith("panoptic_pspnet" if "dense" in name else "panoptic_deeplab")
