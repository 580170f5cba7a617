"""Data without a background: class 0 is a class as any other in annotations, tags and co-occurrence."""

import json

import numpy as np
import pytest
import torch
from easydict import EasyDict
from PIL import Image

from spml.cli.main import main
from spml.data.annotate import UNLABELLED, box_label, boxes, points, regions, scribbles, tags
from spml.data.annotate_list import annotate_list
from spml.data.lists import read_list
from spml.data.prepare.boxes import boxes_of
from spml.data.samples import DataError, Sample
from spml.data.tags import given_tag, read_tags
from spml.grouping import MemoryBank, grouping_losses, segment_by_kmeans
from spml.inference.cams import present_classes
from spml.visualize.heat import cam_picture

NAMES = ("sky", "road", "car")


@pytest.fixture
def mask():
    """Sky above, road below, a car on it; nothing is background."""
    mask = np.zeros((40, 60), np.uint8)
    mask[20:] = 1
    mask[15:30, 20:40] = 2
    return mask


def test_tags_and_boxes_keep_class_0(mask):
    assert tags(mask, background=None) == [0, 1, 2] and tags(mask) == [1, 2] and tags(mask, background=1) == [0, 2]
    assert [box.label for box in boxes(mask, background=None)] == [0, 1, 2]
    assert [box.label for box in boxes(mask, background=1)] == [0, 2]
    assert boxes(mask, background=None)[0] == (0, 0, 0, 60, 20)


def test_outside_the_boxes_nothing_is_known_without_a_background(mask):
    found = boxes(mask, background=None)[2:]
    label = box_label(found, mask.shape, background=None)
    assert set(np.unique(label)) == {2, UNLABELLED} and label[0, 0] == UNLABELLED
    assert box_label(found, mask.shape, background=1)[0, 0] == 1


def test_small_pieces_of_class_0_are_as_those_of_others(mask):
    """Background is drawn in large pieces only; a class is drawn from 20 pixels on."""
    mask[30:36, 50:56] = 0  # 36 pixels, under half a per cent of a larger image
    mask = np.pad(mask, ((0, 100), (0, 100)), constant_values=1)
    for make in (points, scribbles):
        assert not (make(mask)[30:36, 50:56] == 0).any()
        assert (make(mask, background=None)[30:36, 50:56] == 0).any()


def test_an_instance_of_class_0_is_an_object(mask):
    instance = np.where(mask == 0, 7, 0).astype(np.uint8)
    instance[:5] = 255  # void: no object, and no ground either
    kept = {region.label: int(region.inside.sum()) for region in regions(mask, instance, background=None)}
    assert kept[0] == int(((mask == 0) & (instance == 7)).sum())
    ground = {region.label: int(region.inside.sum()) for region in regions(mask, instance)}
    assert ground[0] == int((mask == 0).sum())


@pytest.mark.parametrize(("background", "first", "indexes"), [(None, "a 0 1 2\n", [0, 1, 2]), (0, "a 1 2\n", [1, 2])])
def test_annotations_of_a_list(mask, tmp_path, background, first, indexes):
    Image.fromarray(mask).save(tmp_path / "mask.png")
    Image.fromarray(np.zeros((40, 60, 3), np.uint8)).save(tmp_path / "a.png")
    (tmp_path / "list.txt").write_text("a.png mask.png\n")
    annotate_list(tmp_path, tmp_path / "list.txt", tmp_path / "tag", "tag", background=background)
    assert (tmp_path / "tag" / "tags.txt").read_text() == first
    annotate_list(tmp_path, tmp_path / "list.txt", tmp_path / "box", "box", background=background)
    found = json.loads((tmp_path / "box" / "boxes.json").read_text())["a"]
    assert [box["class"] for box in found] == indexes
    samples = read_list(tmp_path / "list.txt", tmp_path)
    tag = read_tags(tmp_path / "tag" / "tags.txt", samples, 3, NAMES, background)["a"]
    assert np.flatnonzero(tag).tolist() == indexes


def test_the_words_of_a_tag_file(tmp_path):
    samples = [Sample("a.png")]
    (tmp_path / "tags.txt").write_text("a sky 2\n")
    assert read_tags(tmp_path / "tags.txt", samples, 3, NAMES, None)["a"].tolist() == [True, False, True]
    with pytest.raises(
        DataError, match=r"expected a class, 1 to 2 or its name, got 'sky' \(the background is no tag\)"
    ):
        read_tags(tmp_path / "tags.txt", samples, 3, NAMES)
    with pytest.raises(DataError, match=r"expected a class, 0 to 2 or its name, got '2' \(the background is no tag\)"):
        read_tags(tmp_path / "tags.txt", samples, 3, NAMES, background=2)
    assert given_tag(Sample("a.png", tags=["sky", 1]), 3, NAMES, None).tolist() == [True, True, False]
    with pytest.raises(DataError, match="sample 'a': expected a class, 0 to 2 .* got '3'"):
        given_tag(Sample("a.png", tags=[3]), 3, background=None)


def cooccurrence(tag, background, memory=None, labels=None):
    generator = torch.Generator().manual_seed(0)
    segments = segment_by_kmeans(torch.randn(2, 4, 6, 6, generator=generator), labels, num_clusters=(2, 2))
    losses = grouping_losses(
        segments,
        tag,
        num_classes=tag.shape[1],
        background=background,
        concentration={"semantic_cooccurrence": 6.0},
        memory=memory,
        relations=("semantic_cooccurrence",),
    )
    return losses["semantic_cooccurrence"]


def test_cooccurrence_drops_the_background_alone():
    """Two images share class 0 only: without a background they attract, with it they repel."""
    tag = torch.tensor([[True, True, False], [True, False, True]])
    alike = torch.tensor([[False, True, False], [False, True, False]])
    apart = torch.tensor([[False, True, False], [False, False, True]])
    assert torch.equal(cooccurrence(tag, None), cooccurrence(alike, 0))
    assert torch.equal(cooccurrence(tag, 0), cooccurrence(apart, 0))
    assert float(cooccurrence(tag, None)) == pytest.approx(0, abs=1e-6)
    assert float(cooccurrence(tag, 0)) > 0.1
    moved = tag[:, [1, 0, 2]]
    assert torch.equal(cooccurrence(moved, 1), cooccurrence(tag, 0))


def test_cooccurrence_with_a_memory_and_another_background():
    tag = torch.tensor([[True, True, False], [True, False, True]])
    bank = MemoryBank(1)
    segments = segment_by_kmeans(torch.randn(2, 4, 6, 6), num_clusters=(2, 2))
    bank.append(segments, tag)
    shifted = MemoryBank(1)
    shifted.append(segments, tag[:, [1, 2, 0]])
    assert torch.equal(cooccurrence(tag, 0, bank), cooccurrence(tag[:, [1, 2, 0]], 2, shifted))
    assert not torch.equal(cooccurrence(tag, 0, bank), cooccurrence(tag, None, bank))


@pytest.mark.parametrize(("background", "allowed"), [(None, {0, 1, 2}), (0, {1, 2}), (2, {0, 1})])
def test_boxes_of_a_file(tmp_path, background, allowed):
    for index in range(4):
        entry = {"class": index, "x0": 0, "y0": 0, "x1": 2, "y1": 2}
        (tmp_path / "boxes.json").write_text(json.dumps({"a": [entry]}))
        if index in allowed:
            assert boxes_of(tmp_path / "boxes.json", ["a"], NAMES, background)["a"][0].label == index
        else:
            with pytest.raises(DataError, match=f"expected class {min(allowed)} to {max(allowed)}, x0"):
                boxes_of(tmp_path / "boxes.json", ["a"], NAMES, background)


def test_every_class_has_a_cam_without_a_background(tmp_path):
    (tmp_path / "tags.txt").write_text("a sky car\n")
    data = {"tags": str(tmp_path / "tags.txt"), "background": None, "unlabelled_index": None}
    samples = [Sample(tmp_path / "a.jpg")]
    assert present_classes(EasyDict(data), samples, NAMES) == {"a": [0, 2]}
    image, cams = np.zeros((20, 40, 3), np.uint8), {index: np.ones((20, 40)) for index in range(3)}
    cam_picture(image, cams, {}, tmp_path / "picture.png", NAMES, cell_height=20, background=None)  # a title for each
    with Image.open(tmp_path / "picture.png") as picture:
        assert picture.width >= 4 * 40


def test_annotating_says_that_class_0_is_dropped(tmp_path, mask, capsys):
    Image.fromarray(mask).save(tmp_path / "m.png")
    Image.fromarray(np.zeros((*mask.shape, 3), np.uint8)).save(tmp_path / "a.png")
    (tmp_path / "list.txt").write_text("a.png m.png\n")
    (tmp_path / "names.txt").write_text("\n".join(NAMES))
    own = ["annotate", "--kind", "tag", "--data_dir", str(tmp_path), "--data_list", str(tmp_path / "list.txt")]
    own += ["--classes", str(tmp_path / "names.txt"), "--num_workers", "0"]
    assert main([*own, "--save_dir", str(tmp_path / "with")]) == 0
    assert "note: class 0 (sky) counts as background, which is no tag" in capsys.readouterr().out
    assert main([*own, "--save_dir", str(tmp_path / "without"), "--background", "none"]) == 0
    assert "note" not in capsys.readouterr().out
