"""Command lines: released names, overrides, devices, snapshots."""

import sys
from pathlib import Path

import pytest
import torch

from spml.cli import settings
from spml.cli.exits import explain
from spml.cli.main import main
from spml.cli.options import SEGMENTS, add, add_network
from spml.cli.parser import Parser
from spml.device import resolve_device
from spml.errors import UserError
from spml.files import write_atomically
from spml.models.checkpoint import find_snapshot
from spml.propagate import DenseCRF


def parse(tmp_path, *words):
    (tmp_path / "c.yaml").write_text("test: {image_size: 100}\n")
    parser = Parser("spml test")
    add_network(parser)
    add(parser, *SEGMENTS)
    settings.add_views(parser)
    settings.add_crf(parser)
    args = parser.read(
        ["--cfg_path", str(tmp_path / "c.yaml"), "--snapshot_dir", str(tmp_path), "--device", "cpu", *words]
    )
    return args, *settings.read_config(args)


def test_options_stand_in_the_config(tmp_path):
    words = "--kmeans_num_clusters 12,8 train.crop_size=[32,32] network.kmeans_num_clusters=[6,6] "
    words += "--label_divisor 1024 --scales 0.5,1 --flip --data_dir here test.stride=[3,4]"
    _, config, device = parse(tmp_path, *words.split())
    assert device == torch.device("cpu")
    assert (config.network.kmeans_num_clusters, config.network.label_divisor) == ([12, 8], 1024)
    assert (config.test.scales, config.test.flip, config.test.stride) == ([0.5, 1], True, [3, 4])
    assert (config.dataset.data_dir, config.test.image_size) == ("here", 100)


def test_defaults_leave_the_config(tmp_path):
    args, config, _ = parse(tmp_path)
    assert (config.network.kmeans_num_clusters, config.test.scales, config.test.flip) == ([6, 6], [], False)
    assert settings.crf_of(args) is None
    args, _, _ = parse(tmp_path, "--crf", "--crf_bi_xy_std", "50", "--crf_iter_max", "3")
    assert settings.crf_of(args) == DenseCRF(iterations=3, bi_xy_std=50)
    args, _, device = parse(tmp_path, "--crf", "--crf_backend", "torch")
    assert settings.crf_of(args, device) == DenseCRF(backend="torch", device=torch.device("cpu"))


def test_settings_of_a_crf_that_does_not_run(tmp_path):
    for words in (["--crf_bi_xy_std", "50"], ["--no-crf", "--crf_iter_max", "3"]):
        args, _, _ = parse(tmp_path, *words)
        with pytest.raises(UserError, match=f"{words[-2]} is for the CRF, .*: expected --crf"):
            settings.crf_of(args)
    args, _, _ = parse(tmp_path, "--crf_workers", "2")  # of the machine, for scripts that always give it
    assert settings.crf_of(args) is None


def test_pixels_of_a_view_are_bounded_by_what_follows(tmp_path):
    for words, predictor, bound in (
        ([], "retrieval", 1_000_000),
        ([], "softmax", 4_000_000),
        (["--crf"], "softmax", 2_000_000),
        (["--crf"], "retrieval", 1_000_000),
        (["--crf", "--max_pixels", "0"], "softmax", 0),
        (["--max_pixels", "77"], "softmax", 77),
    ):
        args, config, _ = parse(tmp_path, *words)
        assert settings.views_of(args, config, predictor).max_pixels == bound


@pytest.mark.parametrize(
    "word",
    [
        "--gpu",
        "--fli",
        "stray",
        "--kmeans_num_clusters=3",
        "--kmeans_num_clusters=0,3",
        "--scales=0",
        "--scales=a",
        "--scales=1,",
        "--max_pixels=-1",
        "--crf_workers=-1",
        "--crf_iter_max=x",
        "--crf_backend=c",
    ],
)
def test_mistakes_end_with_status_2(tmp_path, word, capsys):
    with pytest.raises(SystemExit) as ended:
        parse(tmp_path, word)
    assert ended.value.code == 2
    told = capsys.readouterr().err
    assert word.split("=")[0].strip("-") in told and "_list value" not in told


def test_options_are_checked_as_their_keys_are(tmp_path):
    with pytest.raises(UserError, match="network.label_divisor: expected .* got 0"):
        parse(tmp_path, "--label_divisor=0")


def test_devices():
    assert resolve_device("auto").type in ("cpu", "cuda")
    for name in ("gpu", "mps", "meta", "cuda:-1"):
        with pytest.raises(UserError, match="expected cpu, cuda"):
            resolve_device(name)
    with pytest.raises(UserError, match="CUDA devices"):
        resolve_device("cuda:99")


def test_the_newest_snapshot(tmp_path):
    with pytest.raises(UserError, match="found none"):
        find_snapshot(tmp_path)
    with pytest.raises(UserError, match="network.pretrained .*found none"):
        find_snapshot(tmp_path / "nowhere", "network.pretrained")
    for name in ("model-9.pth", "model-100.pth", "model-100.state.pth", "model-x.pth"):
        (tmp_path / name).touch()
    assert find_snapshot(tmp_path).name == "model-100.pth"
    assert find_snapshot(tmp_path / "model-9.pth").name == "model-9.pth"


def test_tags_lie_here_or_in_the_data_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data" / "Annotations").mkdir(parents=True)
    for here in (False, True):
        if here:
            (tmp_path / "Annotations").mkdir()
        _, config, _ = parse(tmp_path, "--data_dir=data", "dataset.tags=Annotations")
        assert config.dataset.tags == ("Annotations" if here else "data/Annotations")
    assert parse(tmp_path, "--data_dir=data", "dataset.tags=gone")[1].dataset.tags == "gone"
    assert parse(tmp_path, "--data_dir=data")[1].dataset.tags == ""


@pytest.mark.parametrize(
    "words",
    [
        ["train", "--config", "quickstart", "--snapshot_dir", ""],
        ["train", "--config", "", "--snapshot_dir", "x"],
        ["split", "--data_list", "x.txt", "--save_dir", ""],
    ],
)
def test_an_empty_name_is_no_name(words: list[str], capsys: pytest.CaptureFixture, tmp_path: Path, monkeypatch) -> None:
    """An unset variable of a shell; `Path("")` would be the current folder."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        sys.exit(main(words))
    assert ": expected a name, got nothing" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_file_in_the_place_of_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text("x")
    with pytest.raises(UserError, match=r"cannot write .*own.yaml/a/x.png: .*own.yaml is a file, expected a folder"):
        write_atomically(tmp_path / "own.yaml" / "a" / "x.png", lambda file: file.write(b"x"))
    with pytest.raises(UserError, match=r"cannot write .*own.yaml/x.png: .*own.yaml is a file, expected a folder"):
        write_atomically(tmp_path / "own.yaml" / "x.png", lambda file: file.write(b"x"))


def test_the_studio_looks_for_its_features_at_once(tmp_path: Path) -> None:
    pytest.importorskip("uvicorn", reason="needs the extra `studio`")
    with pytest.raises(UserError, match="package:nope"):
        main(["studio", str(tmp_path), "--source", "package:nope", "--no-browser"])
    with pytest.raises(UserError, match="--source .*: expected a snapshot or a folder with"):
        main(["studio", str(tmp_path), "--source", str(tmp_path / "none"), "--no-browser"])


@pytest.mark.parametrize("name", ["pos_w", "bi_w"])
@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf")])
def test_weights_of_the_crf_are_numbers(name: str, value: float) -> None:
    with pytest.raises(UserError, match=rf"{name} of the CRF: expected a number >= 0, got"):
        DenseCRF(**{name: value})


def test_there_is_one_cpu() -> None:
    with pytest.raises(UserError, match="--device cpu:9: there is one CPU device"):
        resolve_device("cpu:9")


def test_no_memory_is_a_line() -> None:
    assert str(explain(MemoryError("Unable to allocate 9 GiB"))).startswith("no memory left: Unable to allocate 9 GiB")
