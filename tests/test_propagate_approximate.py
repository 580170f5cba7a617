"""The index of faiss beside the exact retrieval; without the package, one clear line."""

import sys

import pytest
import torch
import torch.nn.functional as F

from spml.errors import UserError
from spml.propagate import retrieve
from spml.propagate.approximate import ApproximateMemory


def rows_of(count, seed):
    return F.normalize(torch.randn(count, 8, generator=torch.Generator().manual_seed(seed)), dim=1)


def test_without_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(UserError, match=r"needs the package faiss: install it by `pip install -e .\[faiss\]`"):
        ApproximateMemory(rows_of(3, 0), torch.arange(3))


def test_all_lists_are_exact_and_few_nearly():
    pytest.importorskip("faiss")
    memory, query, number = rows_of(2000, 1), rows_of(30, 2), torch.arange(2000)
    exact, similarity = retrieve(query, memory, number, 5)
    found, value = ApproximateMemory(memory, number, probed=1).retrieve(query, 5)
    assert torch.equal(found, exact)
    torch.testing.assert_close(value, similarity)
    some = ApproximateMemory(memory, number, probed=4).retrieve(query, 5)[0]
    assert 0.5 < (some[:, :, None] == exact[:, None]).any(2).float().mean() < 1


def test_a_small_memory():
    pytest.importorskip("faiss")
    label, value = ApproximateMemory(rows_of(3, 0), torch.tensor([7, 255, 1])).retrieve(rows_of(2, 0), 20)
    assert label.shape == value.shape == (2, 3)
    assert label[0, 0] == 7 and label[1, 0] == 255
    with pytest.raises(UserError, match="got 0"):
        ApproximateMemory(rows_of(0, 0), torch.tensor([]))
