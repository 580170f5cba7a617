"""Config files: broken ones, bases, files of class names."""

from pathlib import Path

import pytest

from spml.config import ConfigError, load_config, save_config, shipped, shipped_config
from spml.config.shipped import shipped_names


def write(folder: Path, text: str, name: str = "x.yaml") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


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
        ("losses: 5\n", r"losses: expected losses by name, .* or none, got 5 \(int\), in .*x\.yaml"),
        ("losses: [cross_entropy]\n", r"losses: expected losses by name"),
        ("losses:\n", r"losses: expected losses by name, .* or none, got nothing, in .*x\.yaml"),
        (
            "losses: {cross_entropy: 1}\n",
            r"losses\.cross_entropy: expected settings such as \{weight: 1\}, or none, got 1",
        ),
        (
            "losses: {cros_entropy: {weight: 1}}\n",
            r"losses\.cros_entropy: unknown key.*did you mean losses\.cross_entropy\?",
        ),
        ("losses: {image_similarity: {k: 8}}\n", r"losses\.image_similarity\.k: unknown key"),
        ("losses: {image_similarity.weight: 1}\n", r"losses\.image_similarity\.weight: expected settings inside"),
        ("losses.image_similarity: none\n", r"losses\.image_similarity: expected `image_similarity` inside a section"),
        ("cross_entropy: {weight: 1}\n", r"cross_entropy\.weight: unknown key"),
        ("seam: {second: 1}\n", r"seam\.second: unknown key.*did you mean seam\.second_view_scale\?"),
        ("seam: 5\n", r"seam: unknown key"),
        ("off: {a: 1}\n", r"False\.a: unknown key"),
        ("5: {}\n", r"5: unknown key"),
        ("expected: 47\n", r"expected: expected a section with keys, got 47"),
        ("train: {seed: " + "9" * 200 + "}\n", r"train\.seed: expected an integer.*9\.\.\.9+ \(int\)"),
    ],
)
def test_bad_files_are_named(tmp_path, text, pattern):
    with pytest.raises(ConfigError, match=pattern) as caught:
        load_config(write(tmp_path, text))
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600


def test_a_file_of_nested_aliases_gives_a_short_message(tmp_path):
    lines = ["- &a [x, x]"]
    for before, name in zip("abcdefgh", "bcdefghi", strict=True):
        lines.append(f"- &{name} [{', '.join([f'*{before}'] * 10)}]")
    path = write(tmp_path, "\n".join(lines))
    with pytest.raises(ConfigError, match="expected sections") as caught:  # written out, 2 * 10 ** 8 items
        load_config(path)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    "text", ["", "# nothing\n", "train:\n", "base:\n", "---\n", "seam:\n", "expected:\n", "expected: none\n"]
)
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


def test_classes_file_gives_names_and_number(tmp_path, monkeypatch):
    write(tmp_path, "background\r\n ellipse \r\nTV monitor\r\n\r\n", "data/names.txt")
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
    pattern = rf"dataset\.classes: expected 2\.\.254 different class names in .*n\.txt.* got {got}, in the overrides"
    with pytest.raises(ConfigError, match=pattern):
        load_config(None, [f"dataset.classes={write(tmp_path, text, 'n.txt')}"])


@pytest.mark.parametrize("number", [3, 6])
def test_a_number_of_classes_beside_their_names_must_be_theirs(tmp_path, number):
    write(tmp_path, "\n".join("abcdef"), "names.txt")
    write(tmp_path, "dataset: {num_classes: 21}\n", "base.yaml")
    both = write(tmp_path, f"dataset: {{classes: names.txt, num_classes: {number}}}\n", "both.yaml")
    alone = write(tmp_path, "base: base.yaml\ndataset: {classes: names.txt}\n", "alone.yaml")
    assert load_config(alone).dataset.num_classes == 6
    for path, overrides in ((both, []), (alone, [f"dataset.num_classes={number}"])):
        if number == 6:
            assert load_config(path, overrides).dataset.num_classes == 6
        else:
            with pytest.raises(
                ConfigError, match=r"dataset\.num_classes: expected 6, the names in .*names\.txt, got 3"
            ):
                load_config(path, overrides)
    saved = tmp_path / "saved.yaml"
    save_config(load_config(alone), saved)
    write(tmp_path, "a\nb\n", "names.txt")
    with pytest.raises(ConfigError, match=r"dataset\.num_classes: expected 2, the names in .*, got 6 .*saved\.yaml"):
        load_config(saved)


def test_expected_figures_are_of_the_file_that_names_them(tmp_path):
    path = write(tmp_path, "expected: {split: dev, mean_iou: 47.2}\n", "a.yaml")
    figure = {"split": "dev", "mean_iou": 47.2, "tolerance": 2.0}
    assert load_config(path).expected == figure
    assert load_config(path, ["expected.tolerance=1"]).expected == {**figure, "tolerance": 1.0}
    assert load_config(path, ["expected=none"]).expected is None
    derived = write(tmp_path, "base: a.yaml\n", "b.yaml")
    assert load_config(derived).expected is None
    saved = tmp_path / "saved.yaml"
    save_config(load_config(path), saved)
    assert load_config(saved) == load_config(path)


def test_a_base_is_found_beside_the_file_or_among_the_shipped_configs(tmp_path):
    path = write(tmp_path, "base: quickstart.yaml\ndataset: {classes: names.txt}\n")
    write(tmp_path, "a\nb\nc\n", "names.txt")
    assert load_config(path).losses == load_config("quickstart", [f"dataset.classes={tmp_path / 'names.txt'}"]).losses
    for base in ("voc12/point.yaml", "voc12/point"):
        config = load_config(write(tmp_path, f"base: {base}\n", "point.yaml"))
        assert config == load_config("voc12/point") == load_config(shipped_config("voc12/point.yaml"))
    write(tmp_path, "train: {seed: 5}\n", "quickstart.yaml")  # the one beside the file comes first
    assert load_config(path).train.seed == 5 and load_config(path).train.base_lr == 3e-3
    itself = write(tmp_path, "base: base.yaml\ntrain: {seed: 7}\n", "base.yaml")  # the shipped file of the same name
    assert load_config(itself).train.seed == 7


def test_shipped_configs_by_name():
    assert shipped_config("base") == shipped_config("base.yaml")
    assert {"base", "quickstart", "voc12/cam"} <= set(shipped_names())
    with pytest.raises(ConfigError, match=r"config: expected one of .*, got 'qickstart'; did you mean quickstart\?"):
        shipped_config("qickstart")
    with pytest.raises(ConfigError, match=r"qickstart: expected a readable .*No such file .*mean quickstart\?"):
        load_config("qickstart")


def test_shipped_configs_of_an_installed_package(tmp_path, monkeypatch):
    write(tmp_path, "train: {seed: 3}\n", "site/spml/configs/base.yaml")
    write(tmp_path, "train: {seed: 4}\n", "site/configs/base.yaml")  # of another package
    monkeypatch.setattr(shipped, "FOLDERS", (tmp_path / "site/spml/configs", tmp_path / "site/configs"))
    assert load_config(write(tmp_path, "base: base.yaml\n")).train.seed == 3
