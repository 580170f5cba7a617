"""CAMs of images, by a network that stands for the real one, against loops; their labels, pictures and script."""

import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from spml.config import load_config
from spml.data.annotate import Box
from spml.data.lists import read_list
from spml.data.pickled import read_cam_file, write_cam_file
from spml.data.prepare.boxes import boxes_of
from spml.data.samples import DataError, read_label
from spml.errors import UserError
from spml.inference.cams import cam_list, cam_plan, image_cams, present_classes
from spml.models import save_checkpoint
from spml.models.cam import build_cam_model
from spml.propagate.cam import tag_label
from spml.pseudo.cam_labels import LabelRule, draw_cams, label_samples, with_instances

SCRIPT = Path(__file__).resolve().parents[1] / "pyscripts" / "inference" / "cam.py"
CPU = torch.device("cpu")


class Stub(torch.nn.Module):
    """Maps at an eighth of the size that depend on place, so that a wrong mirror shows; class 3 is never seen."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[torch.Tensor] = []

    def maps(self, image, tag=None):
        self.tags.append(tag)
        small = F.adaptive_avg_pool2d(image, (max(1, image.shape[2] // 8), max(1, image.shape[3] // 8)))
        ramp = torch.linspace(0, 1, small.shape[3])
        return torch.stack([small[:, 0].relu() + ramp, small[:, 1].relu() * 3, 0 * small[:, 2]], 1)


@pytest.fixture
def config(tiny_config_file):
    return load_config(tiny_config_file, ["network.prediction_types=cam"])


def by_loop(image, present, scales, flip):
    """The same CAMs, view by view and pixel by pixel of the sum."""
    size = image.shape[1:]
    total = {label: np.zeros(size) for label in present}
    model = Stub()
    for scale in scales:
        small = [max(1, int(scale * side)) for side in size]
        view = F.interpolate(image[None], small, mode="bilinear", align_corners=False)
        for mirrored in (False, True)[: 1 + flip]:
            maps = model.maps(view.flip(-1) if mirrored else view)
            maps = maps.flip(-1) if mirrored else maps
            large = F.interpolate(maps, size, mode="bilinear", align_corners=False)[0].numpy()
            for label in present:
                total[label] += large[label - 1]
    return {label - 1: cam / cam.max() if cam.max() > 0 else cam for label, cam in total.items()}


@pytest.mark.parametrize(("scales", "flip"), [((1.0,), False), ((0.5, 1.0, 1.5, 2.0), True), ((0.75,), True)])
def test_cams_are_the_sum_of_views_over_its_maximum(config, scales, flip):
    image = torch.randn(3, 40, 48)
    found = image_cams(image, [1, 2], 4, Stub(), cam_plan(config, scales, flip), CPU)
    expected = by_loop(image, [1, 2], scales, flip)
    assert found.keys() == expected.keys() == {0, 1}
    for index, cam in found.items():
        assert cam.dtype == np.float32 and cam.shape == (40, 48) and cam.max() == 1
        np.testing.assert_allclose(cam, expected[index], atol=2e-3)  # views by another bilinear


def test_classes_decide_the_maps(config):
    config.test.scales = []
    model, plan = Stub(), cam_plan(config)
    assert plan.scales == (0.5, 1.0, 1.5, 2.0) and plan.flip
    for scales in ([0.75, 1.25], [1.0]):  # an explicit 1.0 is one scale
        config.test.scales = scales
        assert cam_plan(config).scales == tuple(scales)
    assert cam_plan(config, [0.5], False).scales == (0.5,)
    assert image_cams(torch.randn(3, 9, 5), [], 4, model, plan, CPU) == {} and not model.tags
    found = image_cams(torch.randn(3, 9, 5), [3, 1], 4, model, plan, CPU)
    assert list(found) == [0, 2] and not found[2].any()  # nowhere seen: no division by zero
    assert model.tags[0].tolist() == [[True, False, True]] * 2
    assert image_cams(torch.randn(3, 1, 1), [2], 4, model, plan, CPU)[1].shape == (1, 1)


def test_data_without_background(config, tiny_data, tmp_path):
    """Every class has a map, under its own number; the tags of class 0 count."""

    class Four(Stub):
        def maps(self, image, tag=None):
            assert tag is None or tag.shape[1] == 4
            return torch.cat([super().maps(image, tag), image[:, 2:].relu()[..., ::8, ::8][..., :5, :6]], 1)

    config.dataset.background = None
    samples = read_list(tiny_data / "val.txt", tiny_data)
    present = present_classes(config.dataset, samples, "abcd")
    assert present["0"] == [0, 1]
    cam_list(config, samples[:1], present, Four(), cam_plan(config, (1.0,), False), CPU, tmp_path)
    cams = read_cam_file(tmp_path / "cam" / "0.npy")
    assert list(cams) == [0, 1]
    label_samples(samples[:1], tmp_path, LabelRule("tag", 4, threshold=0.5, background=None), tiny_data)
    label = read_label(tmp_path / "tag_label" / "0.png")
    best = np.stack([cams[0], cams[1]])
    np.testing.assert_array_equal(label, np.where(best.max(0) < 0.5, 254, best.argmax(0)))
    box = {"0": [Box(0, 4, 5, 30, 20)]}
    label_samples(samples[:1], tmp_path, LabelRule("box", 4, background=None), tiny_data, box)
    label = read_label(tmp_path / "box_label" / "0.png")
    assert (label[20:] == 254).all() and set(np.unique(label[5:20, 4:30])) == {0, 254}


def test_maps_that_are_not_finite(config):
    with pytest.raises(UserError, match="not finite.*diverged"):
        image_cams(torch.full((3, 8, 8), float("nan")), [2], 4, Stub(), cam_plan(config, (1.0,), False), CPU)


def by_masks(samples, config):
    return present_classes(config.dataset, samples, "abcd")


@pytest.fixture
def made(tiny_data, config, tmp_path):
    """CAM files of the tiny data by the stub; and the samples."""
    samples = read_list(tiny_data / "val.txt", tiny_data)
    line = cam_list(config, samples, by_masks(samples, config), Stub(), cam_plan(config, (1.0,)), CPU, tmp_path)
    assert line.startswith("8 CAM files, 0 were there already")
    return samples, tmp_path


def test_files_are_kept_and_replaced(made, config, tiny_data):
    samples, folder = made

    def make(present, model, **options):
        return cam_list(config, samples, present, model, cam_plan(config, (1.0,)), CPU, folder, **options)

    assert list(read_cam_file(folder / "cam" / "0.npy")) == [0]  # by the mask, whose class is 1
    (folder / "cam" / "3.npy").unlink()
    assert make(by_masks(samples, config), Stub()).startswith("1 CAM files, 7 were there already")
    others = {sample.name: [2] for sample in samples}
    with pytest.raises(UserError, match="other CAMs are here .contents.tags"):
        make(others, Stub())
    trained = Stub()
    trained.bias = torch.nn.Parameter(torch.ones(1))
    with pytest.raises(UserError, match="other CAMs are here .weights.model"):
        make(by_masks(samples, config), trained)
    assert make(others, Stub(), overwrite=True).startswith("8 CAM files, 0 were")
    assert list(read_cam_file(folder / "cam" / "0.npy")) == [1]


def test_tags_decide_before_labels(tiny_data, tmp_path):
    samples = read_list(tiny_data / "val.txt", tiny_data)
    (tmp_path / "tags.txt").write_text("".join(f"{sample.name} blue 1\n" for sample in samples[:-1]) + "7\n")
    classes = (tiny_data / "classes.txt").read_text().split()
    data = load_config(None, [f"dataset.tags={tmp_path / 'tags.txt'}"]).dataset
    present = present_classes(data, samples, classes)
    assert present["0"] == [1, 3] and present["7"] == []
    (tmp_path / "plain.txt").write_text("image/0.png\n")
    with pytest.raises(UserError, match="plain.txt line 1: no tags: expected a file dataset.tags"):
        present_classes(load_config().dataset, read_list(tmp_path / "plain.txt", tiny_data), classes)


def test_tag_labels_and_the_list_of_them(made, tiny_data):
    samples, folder = made
    path = label_samples(samples, folder, LabelRule("tag", 4), tiny_data)
    assert path == folder / "list_tag.txt"
    listed = read_list(path, tiny_data, columns=3)
    for sample, old in zip(listed, samples, strict=True):
        assert sample.image.samefile(old.image) and sample.regions.samefile(old.regions)
        expected = tag_label(read_cam_file(folder / "cam" / f"{sample.name}.npy"), 4, (40, 48))
        np.testing.assert_array_equal(read_label(sample.label), expected)
    label_samples(samples, folder, LabelRule("tag", 4, threshold=0.9), tiny_data)  # replaces those of 0.2
    assert (read_label(folder / "tag_label" / "0.png") == 254).any()


def test_box_labels_from_json(made, tiny_data):
    samples, folder = made
    entry = {"class": 1, "x0": 4, "y0": 5, "x1": 30, "y1": 20}
    boxes_json = {sample.name: [entry] for sample in samples} | {"another": []}
    (folder / "boxes.json").write_text(json.dumps(boxes_json))
    boxes = boxes_of(folder / "boxes.json", [sample.name for sample in samples], "abcd")
    assert boxes["0"] == [Box(1, 4, 5, 30, 20)] and "another" not in boxes
    path = label_samples(samples, folder, LabelRule("box", 4), tiny_data, boxes)
    label = read_label(read_list(path, tiny_data, columns=3)[0].label)
    inside = np.zeros((40, 48), bool)
    inside[5:20, 4:30] = True
    cam = read_cam_file(folder / "cam" / "0.npy")[0][5:20, 4:30]
    share = (cam - cam.min()) / (cam.max() - cam.min())
    assert (label[~inside] == 0).all()
    np.testing.assert_array_equal(label[5:20, 4:30], np.where(share >= 0.5, 1, 254))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[1]", "expected name -> list of boxes"),
        ("{", "cannot read the boxes"),
        ('{"1": []}', "no boxes for 1 of 1 names, such as '0'"),
        ('{"0": [{"class": 4, "x0": 0, "y0": 0, "x1": 1, "y1": 1}]}', "0: expected class 1 to 3, x0"),
        ('{"0": [{"class": 1, "x0": 0.5, "y0": 0, "x1": 1, "y1": 1}]}', "whole numbers, got"),
        ('{"0": [[1, 2, 3, 4, 5]]}', "whole numbers, got"),
        ('{"0": [{"class": 1}]}', "whole numbers, got"),
    ],
)
def test_boxes_that_cannot_be_used(tmp_path, text, words):
    (tmp_path / "boxes.json").write_text(text)
    with pytest.raises(DataError, match=words):
        boxes_of(tmp_path / "boxes.json", ["0"], "abcd")


def test_what_labels_refuse(made, tiny_data):
    samples, folder = made
    with pytest.raises(UserError, match="--kind: expected one of tag, box, got 'point'"):
        LabelRule("point", 4)
    with pytest.raises(DataError, match="no over-segmentation .*0.png"):
        with_instances(samples, folder)
    write_cam_file(folder / "cam" / "0.npy", {0: np.ones((4, 4), np.float32)})
    for kind in ("tag", "box"):
        with pytest.raises(DataError, match=r"0.npy: expected a CAM of \(40, 48\) as the image, got \(4, 4\)"):
            label_samples(samples, folder, LabelRule(kind, 4), tiny_data, {sample.name: [] for sample in samples})


def test_pictures_are_spread_over_the_list(made, tiny_data):
    samples, folder = made
    label_samples(samples, folder, LabelRule("tag", 4), tiny_data)
    draw_cams(samples, folder, ["tag"], ["background", "red", "green", "blue"], 3)
    assert sorted(path.stem for path in (folder / "picture").iterdir()) == ["0", "3", "7"]
    with Image.open(folder / "picture" / "0.png") as picture:
        assert picture.mode == "RGB" and picture.width > 3 * 200
    draw_cams(samples, folder / "none", ["tag"], ["a"] * 4, 0)
    assert not (folder / "none").exists()


@pytest.mark.parametrize(
    ("more", "default"), [([], 0.2219), (["test.cam_alpha=1"], 0.5), (["--alpha", "1", "test.cam_alpha=2"], 0.5)]
)
def test_the_script(more, default, tiny_data, tiny_config_file, tmp_path, monkeypatch, capsys):
    config = load_config(tiny_config_file, ["network.prediction_types=cam"])
    save_checkpoint(tmp_path / "model-3.pth", build_cam_model(config))
    (tmp_path / "boxes.json").write_text(json.dumps({str(number): [] for number in range(8)}))
    words = ["--cfg_path", str(tiny_config_file), "--snapshot_dir", str(tmp_path), "--device", "cpu"]
    words += ["--save_dir", str(tmp_path / "out"), "--data_list", str(tiny_data / "val.txt"), "--scales", "0.5,1"]
    words += ["--boxes", str(tmp_path / "boxes.json"), "--pictures", "1", "--gt_list", str(tiny_data / "val.txt")]
    words += ["--instance_dir", str(tiny_data / "region"), *more, "network.prediction_types=cam"]
    monkeypatch.setattr(sys, "argv", ["cam.py", *words])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(SCRIPT), run_name="__main__")
    assert end.value.code == 0
    told = capsys.readouterr().out
    assert "8 CAM files" in told and "(default rule)" in told and "a diagnostic: a threshold chosen" in told
    found = json.loads((tmp_path / "out" / "thresholds.json").read_text())
    assert found["images"] == 8 and found["default"] == pytest.approx(default, abs=1e-3)
    assert found["default"] in [row["threshold"] for row in found["thresholds"]]
    for kind in ("tag", "box"):
        assert len(read_list(tmp_path / "out" / f"list_{kind}.txt", tiny_data, columns=3)) == 8
    assert not read_label(tmp_path / "out" / "box_label" / "0.png").any()  # no box: background
    assert len(list((tmp_path / "out" / "picture").iterdir())) == 1
