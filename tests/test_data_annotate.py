"""Weak annotations from masks: true to the mask, the same for the same seed, and the command line."""

import importlib.util
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from spml.data.annotate import Box, box_label, boxes, points, regions, sample_seed, scribbles, tags
from spml.data.annotate_list import annotate_list
from spml.data.lists import read_list
from spml.data.samples import IGNORE, UNLABELLED
from spml.data.tags import read_tags
from spml.errors import UserError

ROOT = Path(__file__).parents[1]


def scene() -> tuple[np.ndarray, np.ndarray]:
    """A mask and instance mask (90, 120): two discs of class 1 that touch, a ring of class 2, a void band."""
    y, x = np.mgrid[:90, :120]
    mask, instance = np.zeros((90, 120), np.uint8), np.zeros((90, 120), np.uint8)
    for index, (row, column) in enumerate(((30, 25), (30, 52)), start=1):
        disc = np.hypot(y - row, x - column) < 14
        mask[disc], instance[disc] = 1, index
    ring = np.abs(np.hypot(y - 50, x - 92) - 20) < 6
    mask[ring], instance[ring] = 2, 7
    mask[84:], instance[84:] = IGNORE, IGNORE
    return mask, instance


def within(label: np.ndarray, mask: np.ndarray) -> bool:
    """Every labelled pixel has the mask's class, and void is unlabelled."""
    return bool(((label == UNLABELLED) | ((label == mask) & (mask != IGNORE))).all())


def test_regions_are_instances_then_components() -> None:
    mask, instance = scene()
    by_instance = [(region.label, int(region.inside.sum())) for region in regions(mask, instance)]
    assert [label for label, _ in by_instance] == [1, 1, 2, 0, 0]  # the ground inside the ring is the second background
    assert [region.label for region in regions(mask)] == [0, 0, 1, 2]  # discs that touch are one component
    joined = np.sum([region.inside for region in regions(mask, instance)], axis=0)
    assert (joined == (mask != IGNORE)).all()


def test_an_instance_takes_the_class_of_most_pixels_and_uncovered_pixels_form_components() -> None:
    mask = np.array([[1, 1, 1, 2, 0, 3, 3]], np.uint8)
    instance = np.array([[5, 5, 5, 5, 0, 0, 255]], np.uint8)
    found = {(region.label, int(region.inside.sum())) for region in regions(mask, instance)}
    assert found == {(0, 1), (1, 3), (3, 1)}


def test_values_from_num_classes_on_are_no_region() -> None:
    mask = np.array([[0, 1, 2, 200]], np.uint8)
    assert [region.label for region in regions(mask, num_classes=2)] == [0, 1]
    assert tags(mask, num_classes=2) == [1] and tags(mask) == [1, 2, 200]


@pytest.mark.parametrize("draw", [scribbles, points])
def test_labels_stay_inside_their_class_and_repeat(draw) -> None:
    mask, instance = scene()
    first = draw(mask, instance, seed=sample_seed("a", 0))
    assert first.dtype == np.uint8 and within(first, mask)
    assert set(np.unique(first)) == {0, 1, 2, UNLABELLED}
    assert (first == draw(mask, instance, seed=sample_seed("a", 0))).all()
    assert (first != draw(mask, instance, seed=sample_seed("a", 1))).any()
    assert (first != draw(mask, instance, seed=sample_seed("b", 0))).any()


def test_shorter_scribbles_are_part_of_longer_ones() -> None:
    mask, instance = scene()
    drawn = [scribbles(mask, instance, seed=3, length_ratio=ratio) != UNLABELLED for ratio in (0, 0.3, 0.5, 0.8, 1)]
    for short, long in zip(drawn, drawn[1:], strict=False):
        assert (long | ~short).all() and long.sum() > short.sum()
    middle = scribbles(mask, instance, seed=3, length_ratio=0, dilation=0)
    strokes = (middle != UNLABELLED).sum()
    assert len(regions(mask, instance)) <= strokes <= 4 * len(regions(mask, instance))


def test_every_object_gets_a_scribble_and_large_regions_several() -> None:
    mask, instance = scene()
    label = scribbles(mask, instance, seed=0)
    for region in regions(mask, instance):
        assert (label[region.inside] == region.label).any()
    whole = np.zeros((120, 160), np.uint8)
    assert (scribbles(whole, seed=0, length_ratio=0, dilation=0) != UNLABELLED).sum() == 4


def test_scribble_is_a_thin_connected_line_along_a_bar() -> None:
    mask = np.full((40, 200), IGNORE, np.uint8)
    mask[10:30, 5:195] = 3
    line = scribbles(mask, seed=1, dilation=0) == 3
    _, pieces = ndimage.label(line, np.ones((3, 3)))
    rows, columns = np.nonzero(line)
    assert pieces <= 3 and line.sum() < 3 * 2 * 200
    assert columns.max() - columns.min() > 120 and rows.min() >= 11 and rows.max() <= 28


def test_tiny_regions() -> None:
    mask = np.full((50, 50), IGNORE, np.uint8)
    mask[3:8, 3:9] = 1  # 30 pixels
    mask[20:22, 20:22] = 2  # 4 pixels, without an instance: a speck
    label = scribbles(mask, seed=0)
    assert (label == 1).any() and not (label == 2).any()
    instance = np.where(mask == IGNORE, IGNORE, mask).astype(np.uint8)
    assert (points(mask, instance, seed=0) == 2).sum() == 4
    assert [box.label for box in boxes(mask, instance)] == [1, 2] and len(boxes(mask)) == 1


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (64, 1)])
@pytest.mark.parametrize("value", [0, 1, IGNORE])
def test_small_and_uniform_masks(shape: tuple[int, int], value: int) -> None:
    mask = np.full(shape, value, np.uint8)
    for label in (scribbles(mask, seed=0), points(mask, seed=0)):
        assert label.shape == shape and within(label, mask)
        assert (label != UNLABELLED).any() == (value == 0 or (value == 1 and mask.size >= 20))


def test_one_disc_for_each_instance() -> None:
    mask, instance = scene()
    label = points(mask, instance, seed=0, dilation=2)
    for index in (1, 2, 7):
        _, pieces = ndimage.label((label != UNLABELLED) & (instance == index))
        assert pieces == 1
        assert 3 <= ((label != UNLABELLED) & (instance == index)).sum() <= 25
    assert ndimage.label(label == 0)[1] == 2


def test_boxes_and_their_label() -> None:
    mask, instance = scene()
    found = boxes(mask, instance)
    for box, index in zip(found, (1, 2, 7), strict=True):
        rows, columns = np.nonzero(instance == index)
        assert box == (mask[rows[0], columns[0]], columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    label = box_label(found, mask.shape)
    inside = np.zeros(mask.shape, bool)
    for box in found:
        inside[box.y0 : box.y1, box.x0 : box.x1] = True
    assert (label[~inside] == 0).all() and set(np.unique(label[inside])) == {1, 2, UNLABELLED}
    assert label[30, 25] == 1 and label[50, 92] == 2


def test_a_smaller_box_silences_a_larger_one_of_another_class() -> None:
    label = box_label([Box(2, 18, 18, 22, 22), Box(1, 0, 0, 40, 40)], (40, 40), core=0.8)
    assert (label[19:21, 19:21] == 2).all() and label[18, 18] == UNLABELLED and label[20, 14] == 1
    same = box_label([Box(1, 18, 18, 22, 22), Box(1, 0, 0, 40, 40)], (40, 40), core=0.8)
    assert (same[18:22, 18:22] == 1).all()


def test_wrong_arguments() -> None:
    mask = np.zeros((4, 4), np.uint8)
    with pytest.raises(ValueError, match=r"\(4, 4\) and \(4, 5\)"):
        scribbles(mask, np.zeros((4, 5), np.uint8))
    with pytest.raises(ValueError, match="length_ratio.*1.5"):
        scribbles(mask, length_ratio=1.5)
    with pytest.raises(ValueError, match="dilation.*-1"):
        points(mask, dilation=-1)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder of two samples with `list.txt`, masks and instance masks."""
    folder = tmp_path / "data set"
    for name in ("image", "mask", "instance"):
        (folder / name).mkdir(parents=True)
    mask, instance = scene()
    for name in ("one", "two"):
        Image.fromarray(np.full((*mask.shape, 3), 90, np.uint8)).save(folder / "image" / f"{name}.jpg")
        Image.fromarray(mask).save(folder / "mask" / f"{name}.png")
        Image.fromarray(instance).save(folder / "instance" / f"{name}.png")
    lines = [f"image/{name}.jpg mask/{name}.png instance/{name}.png\n" for name in ("one", "two")]
    (folder / "list.txt").write_text("".join(lines))
    return folder


def script(name: str):
    """The module of a script, whose folder is no package."""
    spec = importlib.util.spec_from_file_location(f"script_{name}", ROOT / "pyscripts" / "data" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("kind", ["scribble", "point", "box", "tag"])
def test_command_line_writes_a_list_that_reads_back(data: Path, tmp_path: Path, kind: str, capsys) -> None:
    save_dir, names = tmp_path / "out", tmp_path / "names.txt"
    names.write_text("background\ndisc\nring\n")
    words = ["--data_dir", data, "--data_list", data / "list.txt", "--save_dir", save_dir, "--kind", kind]
    words += ["--classes", names, "--instance_dir", data / "instance"]
    script("annotate").main([str(word) for word in words])
    assert capsys.readouterr().out.strip() == str(save_dir / f"list_{kind}.txt")
    samples = read_list(save_dir / f"list_{kind}.txt", data)
    assert [sample.name for sample in samples] == ["one", "two"] and samples[0].image.is_file()
    mask, instance = scene()
    if kind == "tag":
        assert (save_dir / "tags.txt").read_text() == "one 1 2\ntwo 1 2\n" and samples[0].label is None
        return
    if kind == "box":
        found = json.loads((save_dir / "boxes.json").read_text())
        assert found["two"][0] == {"class": 1, "x0": 12, "y0": 17, "x1": 39, "y1": 44} and len(found["one"]) == 3
    label = [np.array(Image.open(sample.label)) for sample in samples if sample.label is not None]
    own = sample_seed("one", 0)
    expected = {"scribble": scribbles, "point": points}
    if kind in expected:
        assert (label[0] == expected[kind](mask, instance, seed=own)).all() and (label[0] != label[1]).any()
    assert samples[1].regions is not None and samples[1].regions.samefile(data / "instance" / "two.png")


def test_tags_of_names_with_spaces_read_back(data: Path, tmp_path: Path) -> None:
    for folder, ending in (("image", "jpg"), ("mask", "png"), ("instance", "png")):
        (data / folder / f"one.{ending}").rename(data / folder / f"my photo.{ending}")
    (data / "list.txt").write_text("image/my photo.jpg\tmask/my photo.png\n")
    path = annotate_list(data, data / "list.txt", tmp_path / "out", "tag")
    samples = read_list(path, data)
    found = read_tags(tmp_path / "out" / "tags.txt", samples, 3)
    assert {name: np.flatnonzero(tag).tolist() for name, tag in found.items()} == {"my photo": [1, 2]}


def test_list_from_a_linked_data_folder_and_another_length(data: Path, tmp_path: Path) -> None:
    link = tmp_path / "deep" / "link"
    link.parent.mkdir()
    link.symlink_to(data, target_is_directory=True)
    path = annotate_list(link, data / "list.txt", data / "weak", "scribble", length_ratio=0.3)
    assert path.name == "list_scribble_0.3.txt"
    assert path.read_text().splitlines()[0] == "image/one.jpg weak/scribble_0.3/one.png"
    outside = annotate_list(link, data / "list.txt", tmp_path / "out", "point")
    assert all(file.is_file() for sample in read_list(outside, link) for file in sample.files)


def test_mistakes_are_named(data: Path, tmp_path: Path) -> None:
    listed = data / "list.txt"
    with pytest.raises(UserError, match="must not be empty or hold a tab"):
        annotate_list(data, listed, tmp_path / "my\tout", "point")
    with pytest.raises(UserError, match="line 1: no over-segmentation .*nowhere/one.png"):
        annotate_list(data, listed, tmp_path, "point", instance_dir=tmp_path / "nowhere")
    with pytest.raises(UserError, match="--kind: expected one of scribble.*got 'line'"):
        annotate_list(data, listed, tmp_path, "line")
    for option in ({"seed": -1}, {"length_ratio": 2}, {"dilation": -3}, {"num_classes": 300}):
        with pytest.raises(UserError, match=f"--{next(iter(option))}: expected .*got {next(iter(option.values()))}"):
            annotate_list(data, listed, tmp_path, "scribble", **option)
    with pytest.raises(UserError, match="--length_ratio is for --kind scribble, got point"):
        annotate_list(data, listed, tmp_path, "point", length_ratio=0.5)
    (tmp_path / "images.txt").write_text("image/one.jpg\n")
    with pytest.raises(UserError, match="line 1: no semantic label"):
        annotate_list(data, tmp_path / "images.txt", tmp_path, "point")
    (data / "again").mkdir()
    shutil.copy(data / "image" / "one.jpg", data / "again")
    (tmp_path / "twice.txt").write_text("image/one.jpg mask/one.png\nagain/one.jpg mask/two.png\n")
    with pytest.raises(UserError, match="the name 'one' stands on line 1 too"):
        annotate_list(data, tmp_path / "twice.txt", tmp_path, "point")


def test_real_masks(shared: Path) -> None:
    folder = shared / "data" / "msrc_things"
    for sample in read_list(folder / "train.txt", folder)[::40]:
        mask, instance = (np.array(Image.open(path)) for path in (sample.label, sample.regions))
        label = scribbles(mask, instance, seed=sample_seed(sample.name, 0))
        assert within(label, mask)
        for index in np.setdiff1d(instance, (0, IGNORE)):
            assert (label[instance == index] != UNLABELLED).any()
        assert 0.003 < (label != UNLABELLED).mean() < 0.2
