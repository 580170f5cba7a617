"""CAMs over thresholds, and the quality of a pipeline's labels, against loops."""

import json
import runpy
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from spml.data.pickled import write_cam_file
from spml.errors import UserError
from spml.evaluation.cams import CamSweep, default_threshold, sweep_list, sweep_table
from spml.evaluation.iou import ConfusionMatrix
from spml.evaluation.quality import benchmark_result, label_quality, quality_table, record
from spml.propagate.cam import tag_label

SCRIPT = Path(__file__).resolve().parents[1] / "pyscripts" / "benchmark" / "quality.py"


def test_the_sweep_counts_as_one_matrix_a_threshold():
    rng, thresholds = np.random.default_rng(0), (0.1, 0.25, 0.5, 0.9)
    sweep, matrices = CamSweep(4, thresholds), [ConfusionMatrix(4) for _ in thresholds]
    for present in ((0, 2), (1,), ()):
        cams = {index: np.round(rng.random((7, 9)), 2).astype(np.float32) for index in present}
        target = rng.choice([0, 1, 2, 3, 254, 255], (7, 9)).astype(np.uint8)
        sweep.update(cams, target)
        for threshold, matrix in zip(thresholds, matrices, strict=True):
            label = np.zeros((7, 9), int)
            for place in np.ndindex(7, 9):
                values = {index: cam[place] for index, cam in cams.items()}
                best = max(values, key=lambda index: (values[index], -index), default=None)
                if best is not None and values[best] > threshold:
                    label[place] = best + 1
            matrix.update(label, target)
    np.testing.assert_allclose(sweep.mean_iou(), [matrix.mean_iou() for matrix in matrices])


def test_nothing_counted_is_not_a_number():
    sweep = CamSweep(3)
    sweep.update({0: np.ones((2, 2), np.float32)}, np.full((2, 2), 255, np.uint8))
    assert np.isnan(sweep.mean_iou()).all()
    with pytest.raises(ValueError, match=r"classes 0 to 1, got \(2, 2\) of class 2"):
        sweep.update({2: np.ones((2, 2))}, np.zeros((2, 2), np.uint8))


@pytest.mark.parametrize("alpha", [1.0, 4.0, 6.0, 32.0])
def test_the_default_rule_is_a_threshold(alpha):
    level = default_threshold(alpha)
    assert level == pytest.approx((1 - level) ** alpha, abs=1e-9)
    cam = np.array([[0.0, level - 1e-4, level + 1e-4, 1.0]], np.float32)
    np.testing.assert_array_equal(tag_label({0: cam}, 2, (1, 4), alpha=alpha, threshold=0), [[0, 0, 1, 1]])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Masks, CAMs and labels of two images of 2 x 4; half a mask void; a pixel unlabelled."""
    masks = {"a": [[0, 0, 1, 1], [0, 0, 1, 1]], "b": [[2, 2, 0, 0], [255, 255, 255, 255]]}
    labels = {"a": [[0, 0, 1, 254], [0, 1, 1, 1]], "b": [[2, 2, 0, 0], [1, 1, 1, 1]]}
    for kind, content in (("mask", masks), ("label", labels)):
        (tmp_path / kind).mkdir()
        for name, rows in content.items():
            Image.fromarray(np.array(rows, np.uint8)).save(tmp_path / kind / f"{name}.png")
    (tmp_path / "gt.txt").write_text("image/a.jpg mask/a.png\nimage/b.jpg mask/b.png\n")
    write_cam_file(tmp_path / "cam" / "a.npy", {0: np.array([[0, 0, 1, 1], [0, 0.3, 1, 1]], np.float32)})
    write_cam_file(tmp_path / "cam" / "b.npy", {1: np.array([[1, 1, 0, 0], [1, 1, 0, 0]], np.float32)})
    return tmp_path


def test_a_sweep_of_files(folder):
    found = sweep_list(folder / "cam", folder / "gt.txt", folder, 3, 6.0, progress=False)
    by_threshold = {row["threshold"]: row["mean_iou"] for row in found["thresholds"]}
    assert by_threshold[0.4] == 100 and by_threshold[0.1] == round(100 * (5 / 6 + 4 / 5 + 1) / 3, 2)
    told = sweep_table(found)
    assert told.count("(default rule)") == 1 and "diagnostic" in told and "0.22" in told
    write_cam_file(folder / "cam" / "a.npy", {0: np.zeros((3, 3))})
    with pytest.raises(UserError, match=r"a.npy against .*mask/a.png: expected CAMs of \(2, 4\)"):
        sweep_list(folder / "cam", folder / "gt.txt", folder, 3, 6.0, progress=False)


def test_quality_of_labels(folder):
    found = label_quality(folder / "label", folder / "gt.txt", folder, 3, progress=False)
    # background 5 of 6, class 1 3 of 5 (one missed, one false alarm), class 2 all
    assert found["mean_iou"] == round(100 * (5 / 6 + 3 / 5 + 1) / 3, 2) and found["images"] == 2
    assert found["labelled"] == round(100 * 11 / 12, 2) and found["accuracy"] == round(100 * 10 / 11, 2)
    Image.fromarray(np.zeros((3, 3), np.uint8)).save(folder / "label" / "b.png")
    with pytest.raises(UserError, match=r"sizes \(H, W\) differ: .*b.png is \(3, 3\)"):
        label_quality(folder / "label", folder / "gt.txt", folder, 3, progress=False)


def test_rows_are_kept_in_order_and_replaced(folder):
    path = folder / "out" / "quality.json"
    first = label_quality(folder / "label", folder / "gt.txt", folder, 3, progress=False)
    record(path, {"CAM": first})
    (folder / "mIoU.json").write_text(json.dumps({"mean_iou": 51.237, "num_images": 7}))
    rows = record(path, {"final": benchmark_result(folder / "mIoU.json"), "CAM": {**first, "mean_iou": None}})
    assert list(rows) == ["CAM", "final"] == list(json.loads(path.read_text()))
    lines = quality_table(rows).splitlines()
    assert lines[2].split() == ["CAM", "2", "-", "91.7", "90.9"] and lines[3].split() == [
        "final",
        "7",
        "51.2",
        "-",
        "-",
    ]
    assert record(path, {}) == rows


def test_files_that_are_no_results(folder):
    (folder / "x.json").write_text("[1]")
    with pytest.raises(UserError, match="expected a JSON object, got list"):
        record(folder / "x.json", {})
    (folder / "x.json").write_text('{"a": 1}')
    with pytest.raises(UserError, match="expected the rows of a quality file"):
        record(folder / "x.json", {})
    with pytest.raises(UserError, match="expected mean_iou and num_images"):
        benchmark_result(folder / "x.json")
    with pytest.raises(UserError, match="cannot read .*none.json: No such file"):
        benchmark_result(folder / "none.json")


def test_the_script(folder, capsys):
    main = runpy.run_path(str(SCRIPT))["main"]
    words = ["--json", str(folder / "quality.json"), "--num_classes", "3"]
    masks = ["--data_list", str(folder / "gt.txt"), "--data_dir", str(folder)]
    main([*words, *masks, "--labels", f"CAM={folder / 'label'}", f"the same={folder / 'label'}"])
    first = capsys.readouterr().out
    assert [line.split("  ")[0] for line in first.splitlines()[2:]] == ["CAM", "the same"]
    main(words)  # the table alone
    assert capsys.readouterr().out == first
    for wrong in (["--labels", "CAM"], ["--labels", "CAM=x"]):  # no path; no masks
        with pytest.raises(SystemExit) as end:
            main([*words, *wrong])
        assert end.value.code == 2
    told = capsys.readouterr().err
    assert "expected NAME=PATH, got 'CAM'" in told and "--labels needs --data_list" in told


def test_sweep_without_a_background() -> None:
    """Three pixels of classes 0, 1 and 1, two maps: below the threshold a pixel has no class, which is wrong."""
    sweep = CamSweep(2, (0.5,), background=None)
    cams = {0: np.array([[0.9, 0.0, 0.0]], np.float32), 1: np.array([[0.0, 0.8, 0.3]], np.float32)}
    sweep.update(cams, np.array([[0, 1, 1]]))
    assert sweep.mean_iou() == [pytest.approx((1 + 1 / 2) / 2)]
