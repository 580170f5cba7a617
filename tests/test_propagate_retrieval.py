"""Retrieval against sorting everything, and against the release."""

import pytest
import torch
import torch.nn.functional as F
from parity import numbers

from spml.errors import UserError
from spml.propagate import label_share, majority_label, retrieval, retrieve


def unit_rows(count, channels, seed):
    return F.normalize(torch.randn(count, channels, generator=torch.Generator().manual_seed(seed)), dim=1)


def by_sorting(query, memory, label, k):
    similarity = query @ memory.T
    value, order = similarity.sort(dim=1, descending=True, stable=True)
    return label[order[:, :k]], value[:, :k]


@pytest.mark.parametrize(("queries", "size", "k"), [(3, 5, 20), (7, 64, 20), (5, 1000, 20), (1, 129, 1), (0, 30, 4)])
def test_equals_a_full_sort(monkeypatch, queries, size, k):
    monkeypatch.setattr(retrieval, "PRODUCT_BYTES", 4 * 7 * 200)  # several chunks
    monkeypatch.setattr(retrieval, "QUERIES", 4)
    query, memory = unit_rows(queries, 8, seed=0), unit_rows(size, 8, seed=1)
    label = torch.arange(size)
    found, similarity = retrieve(query, memory, label, k)
    expected, value = by_sorting(query, memory, label, k)
    assert found.shape == (queries, min(k, size))
    assert torch.equal(found, expected)
    torch.testing.assert_close(similarity, value)


def test_of_equal_prototypes_the_first_comes_first(monkeypatch):
    monkeypatch.setattr(retrieval, "PRODUCT_BYTES", 4 * 2 * 128)
    memory = torch.eye(4)[torch.arange(1000) % 4]  # 250 copies of each of four directions
    found, similarity = retrieve(torch.eye(4)[:2], memory, torch.arange(1000), k=30)
    assert found.tolist() == [list(range(0, 120, 4)), list(range(1, 121, 4))]
    assert torch.equal(similarity, torch.ones(2, 30))


def test_retrieval_equals_the_release():
    released = numbers("propagate")
    cluster = released["nn.cluster_index"]
    total = torch.zeros(int(cluster.max()) + 1, 16).index_add(0, cluster, released["nn.embedding"])
    label, _ = retrieve(F.normalize(total, dim=1), released["nn.memory"], released["nn.memory_label"], k=20)
    assert torch.equal(label[cluster], released["nn.topk"])
    assert torch.equal(majority_label(label)[cluster], released["nn.prediction"])


def test_what_cannot_be_retrieved():
    with pytest.raises(UserError, match="no prototype"):
        retrieve(torch.ones(2, 3), torch.ones(0, 3), torch.ones(0, dtype=torch.long))
    with pytest.raises(ValueError, match=r"\(2, 3\) and \(4, 5\)"):
        retrieve(torch.ones(2, 3), torch.ones(4, 5), torch.ones(4, dtype=torch.long))
    with pytest.raises(ValueError, match=r"memory_label \(4,\)"):
        retrieve(torch.ones(2, 3), torch.ones(4, 3), torch.ones(3, dtype=torch.long))


def test_majority_and_share():
    label = torch.tensor([[3, 1, 3, 1, 2], [2, 2, 2, 255, 255], [4, 3, 2, 1, 0]])
    assert majority_label(label).tolist() == [1, 2, 0]
    share = label_share(label, num_classes=4)
    assert share.tolist() == torch.tensor([[0, 0.4, 0.2, 0.4], [0, 0, 0.6, 0], [0.2, 0.2, 0.2, 0.2]]).tolist()
    assert majority_label(torch.zeros(0, 20, dtype=torch.long)).shape == (0,)
    with pytest.raises(ValueError, match="k >= 1"):
        majority_label(torch.zeros(3, 0, dtype=torch.long))
