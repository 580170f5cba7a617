"""A pipeline that is killed at random moments goes on, ends with the same, and leaves nothing behind."""

import importlib
import time
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def kills(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module("kills")


@pytest.mark.slow
def test_ten_kills(kills, tmp_path: Path) -> None:
    result = kills.torture(10, 0, tmp_path)
    assert result["kills"] == 10 and result["faults"] == []


def test_faults_are_found(kills, tmp_path: Path) -> None:
    for name in ("one", "other"):
        (tmp_path / name / "cams").mkdir(parents=True)
        (tmp_path / name / "list.txt").write_text(f"{tmp_path}/{name}/a.png\n")
    assert kills.differences(tmp_path / "one", tmp_path / "other") == []
    (tmp_path / "other/cams/a.png").write_bytes(b"b")
    (tmp_path / "other/cams/.a.png.123.tmp").write_bytes(b"b")
    assert kills.differences(tmp_path / "one", tmp_path / "other") == ["cams/a.png stands in one run only"]
    (tmp_path / "one/cams/a.png").write_bytes(b"a")
    assert kills.differences(tmp_path / "one", tmp_path / "other") == ["cams/a.png differs"]
    assert kills.leftovers(tmp_path / "one") == [] and kills.leftovers(tmp_path / "other") == ["cams/.a.png.123.tmp"]


@pytest.mark.slow
def test_processes_of_torchrun_end_with_a_killed_pipeline(kills, tmp_path: Path) -> None:
    pipeline = kills.Pipeline(tmp_path)
    endless = ["--gpus", "2", "--only", "train_cam", "--cam", "train.max_iteration=100000 train.snapshot_step=100000"]
    process = pipeline.start(tmp_path / "out", *endless)
    deadline = time.monotonic() + 120
    while not (tmp_path / "out/cam_network/config.yaml").is_file():  # training begins
        assert process.poll() is None and time.monotonic() < deadline, (tmp_path / "log.txt").read_text()[-2000:]
        time.sleep(0.5)
    assert len(kills.orphans(str(tmp_path), 0)) >= 4  # the pipeline, torchrun and two workers
    process.kill()
    process.wait()
    assert kills.orphans(str(tmp_path), 60) == []
