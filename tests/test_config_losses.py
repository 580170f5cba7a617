"""`losses:` in files and overrides, over each other, and in the flat keys of released and older files."""

from itertools import permutations
from pathlib import Path

import pytest
from test_config import get, write

from spml.config import ConfigError, load_config, save_config
from spml.config.released import FLAT_KEYS, RECIPE, RELATIONS

FLAT = Path(__file__).parent / "data" / "config_flat.yaml"  # that an older version saved beside a snapshot
RELEASED = {"cross_entropy": {"weight": 1.0}, **{name: s for name, s in RECIPE.items() if s["weight"]}}
NESTED = """
losses:
  image_similarity: {weight: 3}
  cross_entropy: {weight: 1}
  semantic_annotation: {weight: 0.3, concentration: 8}
train: {classifier_gradient: true}
"""
NESTED_TREE = {
    "cross_entropy": {"weight": 1.0},
    "semantic_annotation": {"weight": 0.3, "concentration": 8.0},
    "image_similarity": {"weight": 3.0, "concentration": 16.0},
}


def losses(path, *overrides):
    return load_config(path, overrides).losses


def test_a_file_lists_what_is_on_and_the_table_orders_and_completes_it(tmp_path):
    found = losses(write(tmp_path, NESTED))
    assert found == NESTED_TREE and list(found) == list(NESTED_TREE)
    assert losses(write(tmp_path, "losses: {image_similarity: {}}")) == {
        "image_similarity": {"weight": 1.0, "concentration": 16.0}
    }


def test_a_config_that_names_no_loss_trains_by_the_released_recipe(tmp_path):
    assert losses(None) == losses(write(tmp_path, "train: {seed: 1}")) == losses(None, "train.task=spml") == RELEASED
    for task in ("classifier", "cam", "seam", "segmentation"):
        assert losses(None, f"train.task={task}") == {}
    assert losses(write(tmp_path, "losses: {}\nnetwork: {pretrained: model.pth}")) == {}  # names none, on purpose


def test_later_layers_change_single_settings_add_and_remove(tmp_path):
    write(tmp_path, NESTED, "a.yaml")
    changed = "{image_similarity: {concentration: 8}, cross_entropy: none, feature_affinity: {weight: 2}}"
    found = losses(write(tmp_path, f"base: a.yaml\nlosses: {changed}\n", "b.yaml"))
    assert found == {
        "semantic_annotation": {"weight": 0.3, "concentration": 8.0},
        "image_similarity": {"weight": 3.0, "concentration": 8.0},
        "feature_affinity": {"weight": 2.0, "concentration": 12.0, "threshold": 0.95},
    }
    assert losses(tmp_path / "b.yaml", "losses.feature_affinity=none", "losses.cross_entropy.weight=0.5") == {
        "cross_entropy": {"weight": 0.5},
        "semantic_annotation": {"weight": 0.3, "concentration": 8.0},
        "image_similarity": {"weight": 3.0, "concentration": 8.0},
    }
    path = write(tmp_path, "base: b.yaml\nlosses: none\n", "c.yaml")
    assert losses(path, "losses.cross_entropy.weight=1") == {"cross_entropy": {"weight": 1.0}}
    path = write(tmp_path, "base: c.yaml\nlosses: {image_similarity: {weight: 2}}\n", "d.yaml")
    assert losses(path) == {"image_similarity": {"weight": 2.0, "concentration": 16.0}}  # nothing of what was removed


@pytest.mark.parametrize("word", ["none", "null", "~", "'none'", ""])
def test_one_loss_is_removed_by_none(tmp_path, word):
    rest = {name: settings for name, settings in NESTED_TREE.items() if name != "image_similarity"}
    path = write(tmp_path, NESTED, "a.yaml")
    assert losses(path, f"losses.image_similarity={word}") == rest
    assert losses(write(tmp_path, f"base: a.yaml\nlosses: {{image_similarity: {word}}}", "b.yaml")) == rest
    assert losses(path, "losses.feature_affinity=none") == NESTED_TREE  # was not on


def test_overrides_change_what_there_would_be_without_them(tmp_path):
    assert losses(None, "losses.image_similarity.weight=3") == {
        **RELEASED,
        "image_similarity": {"weight": 3.0, "concentration": 16.0},
    }
    assert losses(None, "losses.feature_affinity.weight=1") == {
        **RELEASED,
        "feature_affinity": {"weight": 1.0, "concentration": 12.0, "threshold": 0.95},
    }
    cross_entropy = {"cross_entropy": {"weight": 1.0}}
    assert losses(None, "train.task=segmentation", "losses.cross_entropy.weight=1") == cross_entropy
    both = ["losses=none", "losses={cross_entropy: {weight: 1}}", "train.classifier_gradient=true"]
    assert losses(None, *both) == losses(write(tmp_path, NESTED), *both) == cross_entropy
    assert losses(write(tmp_path, NESTED), "losses={}") == NESTED_TREE


def test_the_flat_config_of_an_older_snapshot(tmp_path):
    config = load_config(FLAT)
    assert config.losses == {
        "cross_entropy": {"weight": 0.3},  # that of semantic annotation, as train.cross_entropy_weight is empty
        "semantic_annotation": {"weight": 0.3, "concentration": 6.0},
        "semantic_cooccurrence": {"weight": 0.0, "concentration": 12.0},
        "image_similarity": {"weight": 3.0, "concentration": 16.0},
        "feature_affinity": {"weight": 1.0, "concentration": 6.0, "threshold": -1.0},
        "propagated_cross_entropy": {"weight": 1.0, "threshold": -1.0},
    }
    assert config.train.task == "spml" and config.test.scales == [1.0] and config.dataset.class_names[1:] == list("abc")
    assert not {f"train.{name}" for name in config.train} & set(FLAT_KEYS)
    save_config(config, tmp_path / "saved.yaml")
    assert load_config(tmp_path / "saved.yaml") == config


def test_an_older_snapshot_of_cams_had_no_way_to_ask_for_one_scale(tmp_path):
    text = FLAT.read_text(encoding="utf-8").replace("prediction_types: segsort", "prediction_types: seam")
    config = load_config(write(tmp_path, text))
    assert config.train.task == "seam" and config.seam.second_view_scale == 0.3 and config.test.scales == []
    config = load_config(write(tmp_path, text.replace("  - 1.0\n  image_size", "  - 0.5\n  image_size")))
    assert config.test.scales == [0.5]
    assert load_config(None, ["train.task=cam", "test.scales=[1.0]"]).test.scales == [1.0]  # said, so meant


FLAT_OVERRIDES = [
    (["train.sem_ann_loss_weight=0.3"], {"cross_entropy.weight": 0.3, "semantic_annotation.weight": 0.3}),
    (["train.cross_entropy_weight=2"], {"cross_entropy.weight": 2.0, "semantic_annotation.weight": 1.0}),
    (["train.cross_entropy_weight=2", "train.cross_entropy_weight="], {"cross_entropy.weight": 1.0}),
    (["train.sem_ann_loss_types=none"], {"semantic_annotation": None, "cross_entropy.weight": 1.0}),
    (["train.sem_occ_loss_types="], {"semantic_cooccurrence": None}),
    (["train.img_sim_concentration=8", "train.img_sim_loss_weight='2e-1'"], {"image_similarity.concentration": 8.0}),
    (
        ["train.feat_aff_loss_types=segsort", "train.feat_aff_concentration=6", "train.feat_aff_loss_weight=0.3"],
        {
            "feature_affinity": {"weight": 0.3, "concentration": 6.0, "threshold": 0.95},
            "propagated_cross_entropy": None,
        },
    ),
    (["train.feat_aff_loss_weight=1"], {"feature_affinity": None}),  # its type is none, as in the release
    (["train.lent_cross_entropy_weight=1"], {"propagated_cross_entropy": {"weight": 1.0, "threshold": 0.95}}),
    (["train.lent_cross_entropy_weight=0"], {"propagated_cross_entropy": None}),
    (
        ["train.lent_cross_entropy_weight=1", "train.feat_aff_threshold=0"],
        {"propagated_cross_entropy": {"weight": 1.0, "threshold": 0.0}, "feature_affinity": None},
    ),
]


@pytest.mark.parametrize(("overrides", "expected"), FLAT_OVERRIDES)
def test_flat_overrides_over_the_released_recipe_in_any_order(overrides, expected, tmp_path):
    keys = [override.partition("=")[0] for override in overrides]
    orders = list(permutations(overrides)) if len(set(keys)) == len(keys) else [tuple(overrides)]
    for order in orders:
        found = losses(None, *order)
        for name, value in expected.items():
            if value is None:
                assert name not in found
            else:
                assert get(found, name) == value
    if len(set(keys)) == len(keys):  # the same in a file
        text = "".join(f"  {override.removeprefix('train.').replace('=', ': ')}\n" for override in overrides)
        assert losses(write(tmp_path, f"train:\n{text}")) == losses(None, *overrides)


def test_flat_overrides_over_a_file_of_the_nested_form(tmp_path):
    path = write(tmp_path, NESTED)
    assert losses(path, "train.img_sim_loss_weight=1")["image_similarity"] == {"weight": 1.0, "concentration": 16.0}
    assert losses(path, "train.sem_ann_loss_weight=1")["cross_entropy"] == {"weight": 1.0}  # which the file names
    assert losses(path, "train.sem_ann_loss_weight=2", "train.cross_entropy_weight=")["cross_entropy"] == {
        "weight": 2.0
    }
    recipe = {"weight": 0.5, "concentration": 12.0}
    assert losses(path, "train.sem_occ_loss_types=segsort")["semantic_cooccurrence"] == recipe
    given = {"weight": 0.3, "concentration": 8.0}
    words = ["sem_occ_loss_types=segsort", "sem_occ_concentration=8", "sem_occ_loss_weight=0.3"]
    for order in permutations(words):
        assert losses(path, *(f"train.{word}" for word in order))["semantic_cooccurrence"] == given
    assert losses(path, *(f"train.{word}" for word in words[1:]))["semantic_cooccurrence"] == given
    assert losses(path, "train.sem_occ_concentration=8", "train.sem_occ_loss_weight=0") == NESTED_TREE
    none = [f"train.{short}_loss_types=none" for short in RELATIONS]
    assert losses(path, *none, "train.lent_cross_entropy_weight=0") == {"cross_entropy": {"weight": 1.0}}
    assert losses(path, *none, "train.sem_ann_loss_weight=1") == {"cross_entropy": {"weight": 1.0}}
    found = losses(path, "losses.feature_affinity.threshold=0.5", "train.lent_cross_entropy_weight=1")
    assert found["propagated_cross_entropy"] == {"weight": 1.0, "threshold": 0.5}


def test_nested_over_flat(tmp_path):
    flat = "train: {sem_ann_loss_weight: 0.3, sem_occ_loss_types: none, sem_occ_concentration: 8}\n"
    write(tmp_path, flat, "a.yaml")
    path = write(tmp_path, "base: a.yaml\nlosses: {semantic_annotation: {weight: 1}}\n", "b.yaml")
    assert losses(path) == {  # cross-entropy keeps what the flat file gave it
        "cross_entropy": {"weight": 0.3},
        "semantic_annotation": {"weight": 1.0, "concentration": 6.0},
        "image_similarity": {"weight": 0.1, "concentration": 16.0},
    }
    assert losses(tmp_path / "a.yaml", "losses.semantic_annotation=none")["cross_entropy"] == {"weight": 0.3}
    assert losses(path, "losses.semantic_cooccurrence.weight=1")["semantic_cooccurrence"]["concentration"] == 8.0
    path = write(tmp_path, "base: b.yaml\ntrain: {img_sim_loss_weight: 2}\n", "c.yaml")  # and flat over that
    assert losses(path)["image_similarity"] == {"weight": 2.0, "concentration": 16.0}
    whole = write(tmp_path, f"base: {write(tmp_path, NESTED, 'n.yaml')}\n{FLAT.read_text(encoding='utf-8')}", "d.yaml")
    assert losses(whole) == losses(FLAT)  # a file that says everything says everything over any base


def test_a_file_has_one_form(tmp_path):
    text = "losses: {cross_entropy: {weight: 1}}\ntrain: {img_sim_loss_weight: 1}\n"
    with pytest.raises(ConfigError, match=r"train\.img_sim_loss_weight: expected all losses of a file .*x\.yaml"):
        load_config(write(tmp_path, text))


@pytest.mark.parametrize(
    ("overrides", "task", "kind"),
    [
        ([], "spml", "segsort"),
        (["network.prediction_types=softmax_classifier"], "classifier", "softmax_classifier"),
        (["network.prediction_types=seam"], "seam", "seam"),
        (["train.task=cam"], "cam", "cam"),
        (["train.task=classifier"], "classifier", "softmax_classifier"),
        (["train.task=segmentation"], "segmentation", "segsort"),
        (
            ["train.task=segmentation", "network.prediction_types=softmax_classifier"],
            "segmentation",
            "softmax_classifier",
        ),
    ],
)
def test_the_task_and_the_kind_of_prediction_follow_each_other(overrides, task, kind):
    config = load_config(None, overrides)
    assert (config.train.task, config.network.prediction_types) == (task, kind)


def test_the_later_of_task_and_kind_of_prediction_counts(tmp_path):
    path = tmp_path / "saved.yaml"
    save_config(load_config(), path)  # holds both
    assert load_config(path, ["network.prediction_types=cam"]).train.task == "cam"
    assert load_config(path, ["train.task=cam"]).network.prediction_types == "cam"
    with pytest.raises(
        ConfigError, match=r"train\.task: expected cam, because network\.prediction_types is cam, got 'spml'"
    ):
        load_config(write(tmp_path, "train: {task: spml}\nnetwork: {prediction_types: cam}\n"))


def test_settings_of_a_task_stand_in_its_own_section(tmp_path):
    path = write(tmp_path, "train: {task: seam}\nseam: {second_view_scale: 0.5}\n")
    assert load_config(path).seam == {"second_view_scale": 0.5}
    assert "seam" not in load_config(path, ["train.task=cam"])
    assert load_config(None, ["train.task=seam"]).seam == {"second_view_scale": 0.3}
    assert load_config(None, ["train.task=seam", "train.second_view_scale=0.4"]).seam == {"second_view_scale": 0.4}
    assert load_config(None, ["train.task=seam", "seam.second_view_scale=0.4"]).seam == {"second_view_scale": 0.4}
    with pytest.raises(ConfigError, match=r"train\.second_view_scale: expected a number > 0 and < 1, got 2"):
        load_config(None, ["train.second_view_scale=2"])
