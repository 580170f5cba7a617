"""The table of compared methods: what each changes, sums of losses, equal tries, a user's own, and misspelt names."""

import pytest

from spml import losses
from spml.errors import UserError
from spml.pipelines.methods import DEFAULT, METHODS, Method, find_methods, multiplied, read_methods


@pytest.mark.parametrize("name", METHODS)
def test_every_setting_of_every_method_is_a_config_of_the_same_network_data_and_steps(tiny_config_file, name):
    method = METHODS[name]
    assert method.help and method.grid[0] == () and len(set(method.grid)) == len(method.grid) >= 4
    first = method.configure(tiny_config_file, [], ())
    for setting in method.grid[1:]:
        other = method.configure(tiny_config_file, [], setting)
        assert other != first
        for section in ("dataset", "network", "test"):
            assert other[section] == first[section]


def test_the_table_has_what_the_protocol_asks_for():
    assert set(DEFAULT) <= set(METHODS) and len({len(method.grid) for method in METHODS.values()}) == 1
    regularisers = set(losses.TABLE) - {name for name in losses.TABLE if "segments" in losses.TABLE[name].inputs}
    assert regularisers - {"cross_entropy"} <= set(METHODS)


def test_sums_and_differences(tiny_config_file):
    found = find_methods(["spml+gated_crf", "spml-image_similarity", "dense_crf+entropy"])
    plus, minus, both = (found[name].configure(tiny_config_file, [], ()) for name in found)
    assert {"gated_crf", "image_similarity"} <= set(plus.losses) and plus.train.task == "spml"
    assert "image_similarity" not in minus.losses and "semantic_annotation" in minus.losses
    assert set(both.losses) == {"cross_entropy", "dense_crf", "entropy"} and both.train.task == "segmentation"
    for method in found.values():
        for setting in method.grid:
            method.configure(tiny_config_file, [], setting)


def test_weights_and_ranges_of_energies_follow_the_crop(tiny_config_file):
    method = METHODS["dense_crf"]
    small = method.configure(tiny_config_file, ["train.crop_size=[57,57]"], ())
    large = method.configure(tiny_config_file, ["train.crop_size=[513,513]"], ())
    assert large.losses.dense_crf.weight == pytest.approx(2e-9)
    assert small.losses.dense_crf.weight == pytest.approx(2e-9 * 9**4, rel=1e-4)  # a ninth of the side
    assert (small.losses.dense_crf.sigma_xy, large.losses.dense_crf.sigma_xy) == (pytest.approx(100 / 9, rel=1e-4), 100)


def test_factors_multiply_what_the_config_has(tiny_config):
    assert multiplied(tiny_config, "train.base_lr*=2") == "train.base_lr=0.006"
    assert multiplied(tiny_config, "train.base_lr=2") == "train.base_lr=2"
    for word in ("losses.entropy.weight*=2", "train.lr_policy*=2", "train.base_lr*=x"):
        with pytest.raises(UserError, match="expected a number times the config's"):
            multiplied(tiny_config, word)


@pytest.mark.parametrize(
    ("names", "tries", "message"),
    [
        (["sml"], 1, "unknown method 'sml'; did you mean 'spml'"),
        (["gated"], 1, "did you mean 'gated_crf'"),
        (["spml+gated"], 1, "unknown loss 'gated'; did you mean 'gated_crf'"),
        (["sml+gated_crf"], 1, "unknown method 'sml'"),
        (["spml", "spml"], 1, "stands twice"),
        ([], 1, "expected one or more of"),
        (["spml", "mine"], 3, r"same number of tried settings.*got 3; fewer have: mine \(2\)"),
    ],
)
def test_names_that_cannot_be_used(tmp_path, names, tries, message):
    (tmp_path / "own.yaml").write_text("mine: {grid: [[], ['train.base_lr*=2']]}\n")
    with pytest.raises(UserError, match=message):
        find_methods(names, tries, read_methods(tmp_path / "own.yaml"))


def test_methods_of_a_file(tmp_path, tiny_config_file):
    text = "mine:\n  help: other rate\n  overrides: [train.base_lr=0.5]\n  grid: [[], ['train.base_lr*=2']]\nplain:\n"
    (tmp_path / "own.yaml").write_text(text)
    found = read_methods(tmp_path / "own.yaml")
    assert list(found) == ["mine", "plain"] and found["mine"].help == "other rate" and found["plain"].grid == ((),)
    mine = found["mine"]
    assert [mine.configure(tiny_config_file, [], setting).train.base_lr for setting in mine.grid] == [0.5, 1.0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a\n", "expected `name:"),
        ("spml: {}\n", "expected another name"),
        ("a/b: {}\n", "expected another name"),
        ("mine: {override: []}\n", "expected some of overrides, grid, labels and help"),
        ("mine: {overrides: train.base_lr=1}\n", "expected a list of `key=value`"),
        ("mine: {grid: [train.base_lr=1]}\n", "grid: expected a list of `key=value`"),
        ("mine: {grid: []}\n", "expected a list of lists"),
        ("mine: {labels: tags}\n", "expected one of weak, spread, masks"),
        ("mine: {overrides: [\n", "line 2"),
    ],
)
def test_a_file_of_another_form_is_one_line(tmp_path, text, message):
    (tmp_path / "own.yaml").write_text(text)
    with pytest.raises(UserError, match=message):
        read_methods(tmp_path / "own.yaml")
    with pytest.raises(UserError, match="cannot read"):
        read_methods(tmp_path / "no.yaml")


@pytest.mark.parametrize("word", ["train.max_iteration=9", "network.embedding_dim=4", "test.flip=true"])
def test_a_method_changes_only_what_is_its_own(tmp_path, tiny_config_file, word):
    (tmp_path / "own.yaml").write_text(f"mine: {{overrides: [{word}]}}\n")
    with pytest.raises(UserError, match="the same for all methods"):
        read_methods(tmp_path / "own.yaml")["mine"].configure(tiny_config_file, [], ())


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("partial_cross_entropy-image_similarity", "image_similarity: the method has no such loss to take away"),
        ("spml-entropy", "entropy: the method has no such loss to take away"),
        ("partial_cross_entropy+cross_entropy", "cross_entropy: the method has the loss already"),
        ("entropy+entropy", "entropy: the method has the loss already"),
    ],
)
def test_a_change_that_changes_nothing_is_no_method(tiny_config_file, name, told):
    with pytest.raises(UserError, match=f"--methods: {told}; without this change it has "):
        find_methods([name])[name].configure(tiny_config_file, [], ())


def test_a_method_has_no_seed_of_its_own(tiny_config_file):
    with pytest.raises(UserError, match="train.seed=3: expected 0 as without the method"):
        Method(overrides=("train.seed=3",)).configure(tiny_config_file, [], (), ["train.seed=5"])
