"""Whether a figure came out as a config says; no names that nobody gave."""

import numpy as np
import pytest
from easydict import EasyDict
from PIL import Image

from spml.evaluation import evaluate_folder, verdict

EXPECTED = EasyDict(split="val", mean_iou=47.2, tolerance=2)


@pytest.mark.parametrize(
    ("share", "inside", "line"),
    [
        (0.472, True, "mean IoU 47.20 is within 47.2 +- 2 on val"),
        (0.4921, False, "mean IoU 49.21 is OUTSIDE 47.2 +- 2 on val"),
        (0.45201, True, "mean IoU 45.20 is within 47.2 +- 2 on val"),
        (float("nan"), False, "mean IoU - is OUTSIDE 47.2 +- 2 on val"),
    ],
)
def test_verdict(share, inside, line):
    found = verdict(share, EXPECTED, "val")
    assert (found.inside, found.line) == (inside, line)
    assert verdict(share, EXPECTED).line == line  # of a list that is not known


def test_another_split_is_not_compared():
    found = verdict(0.47, EXPECTED, "test")
    assert found.inside is None and found.line == "47.2 is expected on val; this is test, which it says nothing of"


def test_without_split_and_tolerance():
    assert verdict(0.765, {"mean_iou": 76.1}).line == "mean IoU 76.50 is within 76.1 +- 0.5"
    assert verdict(0.767, {"mean_iou": 76.1, "split": None, "tolerance": None}, "val").inside is False


@pytest.mark.parametrize("count", [15, 21, None])
def test_no_names_that_were_not_given(tmp_path, count):
    """21 classes are not VOC's by their number, nor 15 DensePose's."""
    for folder in ("pred", "gt"):
        (tmp_path / folder).mkdir()
        Image.fromarray(np.arange(12, dtype=np.uint8).reshape(3, 4)).save(tmp_path / folder / "a.png")
    found = evaluate_folder(tmp_path / "pred", tmp_path / "gt", num_classes=count)
    assert found.classes == tuple(f"class {index}" for index in range(count or 21))
    assert set(found.as_percent()["iou"]) == set(found.classes)
    names = [f"mine {index}" for index in range(12)]
    assert evaluate_folder(tmp_path / "pred", tmp_path / "gt", classes=names).classes == tuple(names)
