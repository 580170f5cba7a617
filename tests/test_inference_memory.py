"""The vote of a segment's pixels, and memories on disk."""

import json

import numpy as np
import pytest
import torch

from spml.data.pickled import write_memory_file
from spml.errors import UserError
from spml.inference.memory import read_memory, read_record, vote


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
    first = write(tmp_path / "semantic_prototype", "a", [0, 21], seed=2)
    write(tmp_path / "semantic_prototype", "c", [])
    for folder in (tmp_path, tmp_path / "semantic_prototype"):
        memory, label = read_memory(folder, num_classes=3, channels=4)
        assert label.tolist() == [0, 1, 2]
        np.testing.assert_array_equal(memory.numpy(), np.stack([first[0], second[0], second[2]]))


def test_a_subset_is_seeded(tmp_path):
    write(tmp_path, "a", list(range(50)))
    draws = [read_memory(tmp_path, 50, 4, size=20, seed=seed)[1].tolist() for seed in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]
    assert len(set(draws[0])) == 20
    assert len(read_memory(tmp_path, 50, 4, size=99)[1]) == 50


def test_what_cannot_be_a_memory(tmp_path):
    with pytest.raises(UserError, match="found none"):
        read_memory(tmp_path, 3, 4)
    write(tmp_path, "a", [255, 7])
    with pytest.raises(UserError, match="below num_classes 3"):
        read_memory(tmp_path, 3, 4)
    with pytest.raises(UserError, match="64 channels"):
        read_memory(tmp_path, 3, 64)


def test_the_record_stands_beside_the_folder(tmp_path):
    (tmp_path / "memory.json").write_text(json.dumps({"full_masks": True}))
    assert read_record(tmp_path) == read_record(tmp_path / "semantic_prototype") == {"full_masks": True}
    assert read_record(tmp_path / "elsewhere") is None
    (tmp_path / "memory.json").write_text("{")
    with pytest.raises(UserError, match="memory.json"):
        read_record(tmp_path)
