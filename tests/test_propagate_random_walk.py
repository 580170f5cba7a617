"""The random walk against matrix powers by loops, and against the release."""

import pytest
import torch
from parity import numbers

from spml.propagate import random_walk


def by_matrix_power(views, score, power, steps):
    """The definition, entry by entry, in float64."""
    flat = views.double().flatten(2)
    count = flat.shape[2]
    affinity = torch.zeros(count, count, dtype=torch.float64)
    for i in range(count):
        for j in range(count):
            cosine = [torch.dot(v[:, i], v[:, j]) / (v[:, i].norm() * v[:, j].norm()) for v in flat]
            affinity[i, j] = (sum(torch.exp(5 * (c - 1)) for c in cosine) / len(cosine)) ** power
    step = affinity / affinity.sum(0, keepdim=True)
    return (score.double().flatten(1) @ torch.linalg.matrix_power(step, steps)).reshape(score.shape)


@pytest.mark.parametrize(("views", "steps"), [(1, 64), (2, 64), (2, 3), (1, 0), (1, 1), (1, 200)])
def test_equals_the_matrix_power(views, steps):
    generator = torch.Generator().manual_seed(views + steps)
    embedding = torch.randn(views, 6, 4, 5, generator=generator)
    score = torch.rand(3, 4, 5, generator=generator)
    walked = random_walk(embedding[0] if views == 1 else embedding, score, power=20, steps=steps)
    assert walked.dtype == torch.float32
    torch.testing.assert_close(walked.double(), by_matrix_power(embedding, score, 20, steps), rtol=1e-4, atol=1e-5)


def test_float64_keeps_its_digits():
    generator = torch.Generator().manual_seed(3)
    embedding = torch.randn(1, 6, 4, 5, generator=generator, dtype=torch.float64)
    score = torch.rand(3, 4, 5, generator=generator, dtype=torch.float64)
    walked = random_walk(embedding, score, power=20, steps=64)
    torch.testing.assert_close(walked, by_matrix_power(embedding, score, 20, 64), rtol=1e-9, atol=1e-12)


def test_equals_the_release():
    released = numbers("propagate")
    walked = random_walk(released["rw.embedding"][:, None], released["rw.cam"][:, None])[:, 0]
    torch.testing.assert_close(walked, released["rw.out"], rtol=1e-4, atol=1e-5)


def test_keeps_its_arguments_and_the_edge_cases():
    embedding, score = torch.randn(4, 2, 3), torch.rand(2, 2, 3)
    kept = embedding.clone(), score.clone()
    random_walk(embedding, score)
    assert torch.equal(embedding, kept[0]) and torch.equal(score, kept[1])
    one = torch.tensor([[[0.25]]])
    torch.testing.assert_close(random_walk(torch.ones(4, 1, 1), one), one)
    with pytest.raises(ValueError, match=r"\(4, 2, 3\) and \(2, 3, 2\)"):
        random_walk(embedding, score.transpose(1, 2))
