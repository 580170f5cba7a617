"""SEAM's pixel correlation against plain loops, and what it lets gradients through to."""

import numpy as np
import torch

from spml.models import pixel_correlation
from spml.models.pixel_correlation import PixelCorrelation, correlate


def maps(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def test_correlation_by_loops_in_one_part_and_in_many(monkeypatch):
    feature, values = maps(2, 4, 3, 5), maps(2, 3, 3, 5, seed=1).abs()
    feature[1, :, 2, 2] = 0  # this pixel has no feature
    f, v = feature.flatten(2).numpy(), values.flatten(2).numpy()
    expected = np.zeros_like(v)
    for b in range(2):
        for i in range(15):
            weight = []
            for j in range(15):
                length = np.linalg.norm(f[b, :, i]) * np.linalg.norm(f[b, :, j])
                weight.append(max(0.0, f[b, :, i] @ f[b, :, j] / length) if length else 0.0)
            total = sum(weight)
            for c in range(3):
                expected[b, c, i] = (
                    sum(w * x for w, x in zip(weight, v[b, c], strict=True)) / total if total else v[b, c, i]
                )
    for rows in (4096, 4):
        monkeypatch.setattr(pixel_correlation, "ROWS", rows)
        found = correlate(feature, values)
        torch.testing.assert_close(found.flatten(2), torch.from_numpy(expected))


def test_rows_of_the_correlation_sum_to_one():
    """Maps that are one everywhere stay so; those of a partition still sum to one at every pixel."""
    feature = maps(2, 6, 4, 5)
    feature[0, :, 0] = 0
    torch.testing.assert_close(correlate(feature, torch.ones(2, 1, 4, 5).double()), torch.ones(2, 1, 4, 5).double())
    partition = maps(2, 3, 4, 5, seed=1).softmax(1)
    torch.testing.assert_close(correlate(feature, partition).sum(1), torch.ones(2, 4, 5).double())


def test_module_detaches_maps_and_features_and_refines_to_shares():
    module = PixelCorrelation(16, 32)
    raw, middle, late = (maps(2, c, 5, 4, dtype=torch.float32).requires_grad_() for c in (3, 16, 32))
    refined = module(raw, maps(2, 3, 37, 30, seed=1, dtype=torch.float32), middle, late)
    assert refined.shape == (2, 3, 5, 4) and refined.min() >= 0 and refined.sum(1).max() <= 1 + 1e-5
    refined[:, 0].sum().backward()
    assert raw.grad is None and middle.grad is None and late.grad is None
    assert all(p.grad is not None and p.grad.any() for p in module.parameters())
