"""The quickstart with few pictures and steps: data, runs, result, picture; a second call repeats nothing."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from spml.pipelines import quickstart as module
from spml.pipelines.compare import METHODS
from spml.pipelines.quickstart import quickstart

CONFIG = Path(__file__).parents[1] / "configs" / "quickstart_scratch.yaml"
TINY = ["train.max_iteration=2", "train.warmup_iteration=1", "train.batch_size=2", "num_threads=0"]


@pytest.mark.slow
def test_everything_the_first_screen_promises(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "NUM_TRAIN", 6)
    monkeypatch.setattr(module, "NUM_VAL", 3)
    result = quickstart(CONFIG, tmp_path, [0], torch.device("cpu"), TINY)
    assert result.keys() == {*METHODS, "seconds"}
    assert json.loads((tmp_path / "result.json").read_text()) == result
    with Image.open(tmp_path / "result.png") as picture:
        width, height = picture.size
        assert width > height > 4 * 100 and picture.mode == "RGB"
        assert len(picture.resize((64, 64)).getcolors(4096)) > 100
    assert (tmp_path / "data" / "meta.json").is_file()
    snapshots = sorted(tmp_path.glob("*/seed0/model-*.pth"))
    times = [path.stat().st_mtime_ns for path in snapshots]
    assert len(snapshots) == 4  # a model and a state for each method
    assert quickstart(CONFIG, tmp_path, [0], torch.device("cpu"), TINY) == result
    assert [path.stat().st_mtime_ns for path in snapshots] == times
