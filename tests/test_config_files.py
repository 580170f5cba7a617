"""Config files: broken ones, bases, files of class names."""

from pathlib import Path

import pytest

from spml.config import ConfigError, load_config, save_config


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
