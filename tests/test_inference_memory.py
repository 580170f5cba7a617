"""The vote of a segment's pixels, and memories on disk."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from spml import records
from spml.data.lists import read_list
from spml.data.pickled import read_memory_file, read_origin, write_memory_file
from spml.data.samples import Sample, read_label
from spml.errors import UserError
from spml.inference.memory import check_memory, draw, fill_memory, of_full_masks, read_memory, vote
from spml.inference.segmenter import Segmenter
from spml.inference.views import ViewPlan
from spml.models import build_embedding_model


def vote_by_loop(index, label, num_segments, num_classes):
    result = []
    for segment in range(num_segments):
        counts = {}
        for i, value in zip(index.tolist(), label.tolist(), strict=True):
            if i == segment and (value < num_classes or value == 255):
                counts[value] = counts.get(value, 0) + 1
        best = max(counts.values(), default=0)
        result.append(min((value for value, count in counts.items() if count == best), default=255))
    return result


def test_vote_equals_a_loop():
    generator = torch.Generator().manual_seed(0)
    index = torch.randint(0, 30, (300,), generator=generator)
    index[index == 7] = 8  # a segment without pixels
    label = torch.tensor([0, 1, 2, 3, 254, 21, 255])[torch.randint(0, 7, (300,), generator=generator)]
    assert vote(index, label.to(torch.uint8), 30, 4).tolist() == vote_by_loop(index, label, 30, 4)


def test_vote_abstention_void_and_ties():
    index = torch.tensor([0, 0, 0, 1, 1, 1, 2, 2, 3, 3])
    label = torch.tensor([254, 254, 2, 255, 255, 1, 3, 1, 254, 254])
    assert vote(index, label, 4, 4).tolist() == [2, 255, 1, 255]


def write(folder, name, label, channels=4, seed=0):
    rows = np.random.default_rng(seed).normal(size=(len(label), channels)).astype(np.float32)
    write_memory_file(folder / f"{name}.npy", rows, np.array(label, np.int64))
    return rows


def test_a_memory_is_read_in_order_of_names(tmp_path):
    (tmp_path / "semantic_prototype").mkdir()
    second = write(tmp_path / "semantic_prototype", "b", [1, 255, 2], seed=1)
    first = write(tmp_path / "semantic_prototype", "a", [0, 255], seed=2)
    write(tmp_path / "semantic_prototype", "c", [])
    for folder in (tmp_path, tmp_path / "semantic_prototype"):
        memory, label = read_memory(folder, num_classes=3, channels=4)
        assert label.tolist() == [0, 1, 2]
        np.testing.assert_array_equal(memory.numpy(), np.stack([first[0], second[0], second[2]]))


def test_a_subset_is_seeded(tmp_path):
    write(tmp_path, "a", list(range(50)))
    memory, label = read_memory(tmp_path, 50, 4)
    draws = [draw(memory, label, 20, seed)[1].tolist() for seed in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]
    assert len(set(draws[0])) == 20 and draws[0] == sorted(draws[0])
    assert len(draw(memory, label, 99, 0)[1]) == len(draw(memory, label, 0, 0)[1]) == 50
    torch.testing.assert_close(draw(memory, label, 20, 0)[0], memory[draws[0]])


def test_what_cannot_be_a_memory(tmp_path):
    with pytest.raises(UserError, match="found none"):
        read_memory(tmp_path, 3, 4)
    write(tmp_path, "a", [255, 255])
    with pytest.raises(UserError, match="none of the prototypes has a label"):
        read_memory(tmp_path, 3, 4)
    with pytest.raises(UserError, match="64 channels"):
        read_memory(tmp_path, 3, 64)


@pytest.mark.parametrize("label", [4, 21, 256, -1])
def test_labels_that_no_class_has(tmp_path, label):
    write(tmp_path, "a", [0, 2, 255])
    write(tmp_path, "b", [1, label])
    with pytest.raises(UserError, match=f"b.npy: expected labels below num_classes 3, or 254 or 255, got {label}"):
        read_memory(tmp_path, 3, 4)


def test_prototypes_without_a_class_are_left_out(tmp_path):
    """Void, unlabelled as our tools write it, and unlabelled as the release does: the number of classes."""
    write(tmp_path, "a", [0, 2, 255, 254, 3])
    assert read_memory(tmp_path, 3, 4)[1].tolist() == [0, 2]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_prototypes_that_are_not_finite(tmp_path, value):
    rows = write(tmp_path, "a", [0, 255])
    rows[0, 1] = value
    write_memory_file(tmp_path / "a.npy", rows, np.array([255, 0]))
    assert len(read_memory(tmp_path, 3, 4)[0]) == 1  # void rows are never used
    write_memory_file(tmp_path / "a.npy", rows, np.array([0, 255]))
    with pytest.raises(UserError, match="a.npy: expected finite prototypes"):
        read_memory(tmp_path, 3, 4)


def test_full_masks_are_told_by_the_record_and_by_older_ones(tmp_path):
    assert not of_full_masks(tmp_path)
    (tmp_path / "memory.json").write_text(json.dumps({"full_masks": True}))
    assert of_full_masks(tmp_path) and of_full_masks(tmp_path / "semantic_prototype")
    (tmp_path / "memory.json").write_text("{")
    with pytest.raises(UserError, match="memory.json.*expected what `spml memory` wrote"):
        of_full_masks(tmp_path)
    record = records.Record("memories", settings={"full_masks": False})
    (tmp_path / "semantic_prototype").mkdir()
    records.start(tmp_path / "semantic_prototype", record, made=())
    assert not of_full_masks(tmp_path / "semantic_prototype")


@pytest.fixture
def filled(tiny_config, tmp_path):
    """A memory of the tiny data, its segmenter, and the samples."""
    samples = read_list(tiny_config.dataset.train_data_list, tiny_config.dataset.data_dir)
    segmenter = segmenter_of(tiny_config)
    told = fill_memory(tiny_config, samples[:3], segmenter, tmp_path / "memory")
    assert "prototypes of 3 images (0 were there already) from the weak labels of" in told
    return tmp_path / "memory", segmenter, samples


def segmenter_of(config, seed=0):
    torch.manual_seed(seed)
    model = build_embedding_model(config).eval()
    return Segmenter.from_config(config, model, ViewPlan.from_config(config), torch.device("cpu"))


def test_a_memory_fits_its_network_and_segments(filled, tiny_config):
    folder, segmenter, _ = filled
    check_memory(folder, tiny_config, segmenter)
    check_memory(folder / "semantic_prototype", tiny_config, segmenter)
    views = replace(segmenter, plan=replace(segmenter.plan, scales=(0.5, 1.5), flip=True))
    check_memory(folder, tiny_config, views)
    for other, words in (
        (segmenter_of(tiny_config, seed=1), "weights.segmenter.model has changed"),
        (replace(segmenter, num_clusters=(4, 3)), r"settings.num_clusters \[3, 3\], now \[4, 3\]"),
        (replace(segmenter, iterations=3), "settings.iterations 10, now 3"),
    ):
        with pytest.raises(UserError, match=f"memory: the memory was made by another network .*{words}"):
            check_memory(folder, tiny_config, other)
    tiny_config.network.pixel_stds = [0.2, 0.2, 0.2]
    with pytest.raises(UserError, match="settings.pixel_stds"):
        check_memory(folder, tiny_config, segmenter)


def test_an_interrupted_memory_is_not_read(filled, tiny_config):
    folder, segmenter, _ = filled
    records.reopen(folder / "semantic_prototype")
    with pytest.raises(UserError, match="the memory is not complete"):
        check_memory(folder / "semantic_prototype", tiny_config, segmenter)
    records.start(folder.parent / "other", records.Record("CAMs"), made=())
    records.finish(folder.parent / "other")
    with pytest.raises(UserError, match="expected a memory, got CAMs"):
        check_memory(folder.parent / "other", tiny_config, segmenter)
    check_memory(folder.parent, tiny_config, segmenter)  # no record: the release's


@pytest.mark.parametrize("key", ["crop_size", "stride", "image_size", "scales"])
def test_every_setting_counts_when_a_memory_goes_on(filled, tiny_config, key):
    folder, segmenter, samples = filled
    value = {"crop_size": (48, 48), "stride": (8, 8), "image_size": 32, "scales": (0.5,)}[key]
    other = replace(segmenter, plan=replace(segmenter.plan, **{key: value}))
    with pytest.raises(UserError, match=f"other memories are here .settings.segmenter.plan.{key}"):
        fill_memory(tiny_config, samples[:3], other, folder)


def test_a_memory_without_any_label_is_not_complete(tiny_config, tmp_path):
    label = np.full((40, 48), 255, np.uint8)
    label[0, 0] = 1  # alone in a segment that is void
    Image.fromarray(label).save(tmp_path / "label.png")
    Image.fromarray(np.zeros((40, 48, 3), np.uint8)).save(tmp_path / "image.png")
    samples = [Sample(tmp_path / "image.png", tmp_path / "label.png")]
    with pytest.raises(UserError, match="no segment of the 1 images .* values below num_classes 4"):
        fill_memory(tiny_config, samples, segmenter_of(tiny_config), tmp_path / "memory")
    assert not records.read(tmp_path / "memory" / "semantic_prototype").complete
    with pytest.raises(UserError, match="no label: a memory needs"):
        fill_memory(tiny_config, [Sample(tmp_path / "image.png")], segmenter_of(tiny_config), tmp_path / "other")


@pytest.mark.parametrize(("scales", "flip"), [((1.0,), False), ((1.0, 0.5), True)])
def test_a_memory_says_which_segment_a_prototype_comes_from(tiny_config, tmp_path, scales, flip):
    """The label of each prototype is the vote of the pixels of that segment, in the image of segments beside it."""
    samples = read_list(tiny_config.dataset.train_data_list, tiny_config.dataset.data_dir)[:2]
    segmenter = segmenter_of(tiny_config)
    segmenter = replace(segmenter, plan=replace(segmenter.plan, scales=scales, flip=flip))
    fill_memory(tiny_config, samples, segmenter, tmp_path)
    for sample in samples:
        path = tmp_path / "semantic_prototype" / f"{sample.name}.npy"
        (_, label), origin = read_memory_file(path), read_origin(path)
        assert origin.shape == label.shape and (origin.min() == -1) == (len(scales) > 1)
        with Image.open(tmp_path / "semantic_cluster" / f"{sample.name}.png") as image:
            index = torch.from_numpy(np.array(image).astype(np.int64)).flatten()
        weak = torch.from_numpy(read_label(sample.label)).flatten()
        votes = vote(index, weak, int(index.max()) + 1, 4)
        inside = origin >= 0
        assert votes[origin[inside]].tolist() == label[inside].tolist()
        assert sorted(origin[inside].tolist()) == torch.nonzero(votes != 255).flatten().tolist()


def test_files_of_the_release_do_not_say_it(tmp_path):
    write(tmp_path, "released", [0, 1])
    assert read_origin(tmp_path / "released.npy") is None
    with pytest.raises(ValueError, match="expected segment"):
        write_memory_file(tmp_path / "a.npy", np.ones((2, 3)), np.arange(2), np.arange(3))
