"""Records: what counts, what is removed, what is refused."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from spml.errors import UserError
from spml.files import read_json, remove_stale, write_atomically, write_json
from spml.records import (
    Record,
    describe,
    differences,
    finish,
    hash_array,
    hash_file,
    hash_files,
    hash_weights,
    read,
    record_of,
    reopen,
    require_complete,
    start,
)

MADE = ("label/*.png",)


@dataclass(frozen=True)
class Plan:
    scales: tuple[float, ...]
    crop: tuple[int, int]
    device: str = "cpu"


@dataclass(frozen=True)
class Predictor:
    model: torch.nn.Module
    plan: Plan
    memory: torch.Tensor


def fill(folder: Path, *names: str) -> None:
    (folder / "label").mkdir(exist_ok=True)
    for name in names:
        (folder / "label" / f"{name}.png").write_bytes(b"x")


def held(folder: Path) -> list[str]:
    return sorted(path.stem for path in (folder / "label").glob("*.png"))


def test_the_same_record_goes_on_and_another_stops(tmp_path):
    one = Record("labels", {"model": "aa"}, {"steps": 3, "views": {"flip": False}}, {"list": "bb"}, {"list": "a.txt"})
    assert start(tmp_path, one, made=MADE) is False
    assert read(tmp_path) == one and not read(tmp_path).complete
    fill(tmp_path, "a", "b")
    elsewhere = Record(one.kind, one.weights, one.settings, one.contents, {"list": "copy of a.txt"})
    assert start(tmp_path, elsewhere, made=MADE, overwrite=True) is False and held(tmp_path) == ["a", "b"]
    finish(tmp_path, images=2)
    assert start(tmp_path, elsewhere, made=MADE) is True
    assert read(tmp_path).notes == {"list": "a.txt", "images": 2}
    other = Record("labels", {"model": "cc"}, {"steps": 3, "views": {"flip": True}}, {"list": "bb"})
    words = r"record.json: other labels are here \(weights.model has changed; settings.views.flip false, now true\)"
    with pytest.raises(UserError, match=words + ": .* or --overwrite"):
        start(tmp_path, other, made=MADE)
    assert held(tmp_path) == ["a", "b"] and read(tmp_path).complete
    another_kind = Record("labels", {"model": "aa"}, {"steps": 3, "views": {"kind": "Crops", "size": 3}}, one.contents)
    with pytest.raises(UserError, match=r'here \(settings.views null, now "Crops"\): '):  # its size says no more
        start(tmp_path, another_kind, made=MADE)
    assert start(tmp_path, other, made=MADE, overwrite=True) is False
    assert held(tmp_path) == [] and read(tmp_path) == other and not read(tmp_path).complete


def test_another_record_without_files_is_replaced(tmp_path):
    start(tmp_path, Record("labels", settings={"k": 1}), made=MADE)
    start(tmp_path, Record("labels", settings={"k": 2}), made=MADE)
    assert read(tmp_path).settings == {"k": 2}


def test_another_kind_is_never_removed(tmp_path):
    start(tmp_path, Record("labels"), made=MADE)
    fill(tmp_path, "a")
    with pytest.raises(UserError, match="this folder holds labels: expected another one for CAMs"):
        start(tmp_path, Record("CAMs"), made=("**/*",), overwrite=True)
    assert held(tmp_path) == ["a"]


def test_files_without_a_record_may_be_the_user_s_own(tmp_path):
    fill(tmp_path, "a")
    with pytest.raises(UserError, match="a.png: no record says what made this file, so it may be your own"):
        start(tmp_path, Record("labels"), made=MADE)
    assert held(tmp_path) == ["a"] and not (tmp_path / "record.json").exists()
    assert start(tmp_path, Record("labels"), made=MADE, adopt=True) is False
    assert held(tmp_path) == ["a"]
    (tmp_path / "record.json").unlink()
    assert start(tmp_path, Record("labels"), made=MADE, overwrite=True) is False
    assert held(tmp_path) == ["a"]  # what this run does not replace stays
    assert require_complete(tmp_path / "label", "the memory") is None


def test_files_of_an_older_version_are_not(tmp_path):
    fill(tmp_path, "a")
    (tmp_path / "made_by.json").write_text("{}")
    how = {"made": MADE, "older": tmp_path / "made_by.json"}
    with pytest.raises(UserError, match="files of an older version"):
        start(tmp_path, Record("labels"), **how)
    start(tmp_path, Record("labels"), **how, overwrite=True)
    assert held(tmp_path) == [] and sorted(path.name for path in tmp_path.iterdir()) == ["label", "record.json"]


def test_what_is_not_complete_is_not_read(tmp_path):
    start(tmp_path, Record("memories"), made=MADE)
    with pytest.raises(UserError, match="the memory is not complete"):
        require_complete(tmp_path, "the memory")
    finish(tmp_path)
    assert require_complete(tmp_path, "the memory") == Record("memories")
    reopen(tmp_path)
    with pytest.raises(UserError, match="not complete"):
        require_complete(tmp_path, "the memory")


@pytest.mark.parametrize("text", ["{", "[]", '{"colour": 3}'])
def test_a_damaged_record_is_one_line(tmp_path, text):
    (tmp_path / "record.json").write_text(text)
    with pytest.raises(UserError, match="record.json.*expected what an earlier run wrote there"):
        start(tmp_path, Record("labels"), made=MADE)


def test_a_record_of_networks_tensors_and_settings():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    predictor = Predictor(model, Plan((1.0, 0.5), (8, 8)), torch.ones(2, 3))
    one = record_of("labels", {"predictor": predictor, "steps": np.int64(3), "crf": None}, {"list": "aa"}, images=2)
    assert set(one.weights) == {"predictor.model"} and set(one.contents) == {"predictor.memory", "list"}
    assert one.settings == {
        "predictor": {"kind": "Predictor", "plan": {"kind": "Plan", "scales": [1.0, 0.5], "crop": [8, 8]}},
        "steps": 3,
        "crf": None,
    }
    moved = Predictor(model, Plan((1.0, 0.5), (8, 8), device="cuda"), torch.ones(2, 3))
    same = record_of("labels", {"predictor": moved, "steps": 3, "crf": None}, {"list": "aa"})
    assert same == one == Record(**json.loads(json.dumps(one.__dict__)))
    with torch.no_grad():
        model[0].bias[0] += 1
    other = record_of("labels", {"predictor": moved, "steps": 3, "crf": None}, {"list": "aa"})
    assert [line.split()[0] for line in differences(one, other)] == ["weights.predictor.model"]


def test_hashes_of_contents(tmp_path):
    for folder, swapped in (("one", False), ("two", False), ("three", True)):
        (tmp_path / folder).mkdir()
        for name, text in zip("ab", "yx" if swapped else "xy", strict=True):
            (tmp_path / folder / name).write_text(text)

    def hashed(folder, names="ab"):
        return hash_files(tmp_path / folder / name for name in names)

    assert hashed("one") == hashed("two") != hashed("three")
    assert hashed("one") != hashed("one", "ba") and hashed("one") != hashed("one", "a")
    assert hash_file(tmp_path / "one" / "a") == hash_file(tmp_path / "three" / "b")
    array = np.arange(6, dtype=np.uint8).reshape(2, 3)
    assert hash_files([array]) == hash_files([np.asfortranarray(array)]) != hash_files([array.T])
    with pytest.raises(UserError, match="cannot read .*/c: No such file"):
        hashed("one", "abc")


def test_hashes_of_arrays_and_weights(tmp_path):
    values = torch.randn(2, 3, 4, 4)
    assert hash_array(values) == hash_array(values.to(memory_format=torch.channels_last)) == hash_array(values.numpy())
    assert hash_array(values) != hash_array(values.flip(0)) and hash_array(values.bfloat16()) != hash_array(values)
    assert hash_array(torch.tensor(3)) != hash_array(torch.tensor(4))
    model = torch.nn.BatchNorm2d(3)
    before = hash_weights(model)
    model(values[:, :3])
    assert hash_weights(model) != before  # its statistics moved
    after = hash_weights(model)
    model.num_batches_tracked += 1
    assert hash_weights(model) == after
    torch.save({"embedding_model": model.state_dict(), "prediction_model": {}}, tmp_path / "model-1.pth")
    torch.save({"prediction_model": {}, "embedding_model": model.state_dict()}, tmp_path / "copy.pth")
    assert hash_weights(tmp_path / "model-1.pth") == hash_weights(tmp_path / "copy.pth")
    (tmp_path / "text").write_text("x")
    with pytest.raises(UserError, match="text: expected a snapshot"):
        hash_weights(tmp_path / "text")


def test_descriptions():
    assert describe({1: (2, None), "a": Path("b")}) == {"1": [2, None], "a": "b"}
    assert describe(torch.ones(2)) == describe(np.ones(2, np.float32)) != describe(torch.zeros(2))
    assert describe(print) == "builtin_function_or_method"


def test_temporary_files_of_dead_processes_go(tmp_path):
    process = subprocess.run([sys.executable, "-S", "-c", "import os; print(os.getpid())"], capture_output=True)
    dead = int(process.stdout)
    (tmp_path / "label").mkdir()
    for folder in (tmp_path, tmp_path / "label"):
        for name in (f".a.png.{dead}.tmp", f".a.png.{os.getpid()}.tmp", ".a.png.x.tmp", f"a.png.{dead}.tmp"):
            (folder / name).touch()
    assert remove_stale(tmp_path) == 2
    assert len(list(tmp_path.rglob("*.tmp"))) == 6
    assert remove_stale(tmp_path / "none") == 0


def test_files_are_whole_or_not_there(tmp_path):
    def fail(file):
        file.write(b"half")
        raise KeyError

    with pytest.raises(KeyError):
        write_atomically(tmp_path / "a", fail)
    assert not list(tmp_path.iterdir())
    write_json(tmp_path / "deep" / "a.json", {"a": [1]})
    assert read_json(tmp_path / "deep" / "a.json") == {"a": [1]}
    (tmp_path / "a").touch()
    with pytest.raises(UserError, match="cannot write"):
        write_json(tmp_path / "a" / "b.json", 1)
    with pytest.raises(UserError, match="cannot read .*: expected value|cannot read .*; expected boxes"):
        read_json(tmp_path / "a", "boxes")
    with pytest.raises(UserError, match="cannot read .*none: No such file .*; expected boxes"):
        read_json(tmp_path / "none", "boxes")
