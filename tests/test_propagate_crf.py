"""The CRF: what it smooths, what it keeps, what it says."""

import sys

import numpy as np
import pytest
import torch

from spml.cli import UserError
from spml.propagate import DenseCRF


def two_halves():
    """A dark and a bright half, and a probability of the second class with noise in it."""
    image = np.zeros((20, 31, 3), np.uint8)
    image[:, 16:] = 200
    second = np.where(np.arange(31) >= 16, 0.7, 0.3) + np.random.default_rng(0).normal(0, 0.15, (20, 31))
    second = second.clip(0, 1)
    return image, np.stack([1 - second, second])


def test_noise_goes_and_the_edge_stays():
    pytest.importorskip("pydensecrf")
    image, probability = two_halves()
    truth = np.broadcast_to(np.arange(31) >= 16, (20, 31))
    refined = DenseCRF()(image, probability)
    assert refined.shape == (2, 20, 31) and refined.dtype == np.float32
    np.testing.assert_allclose(refined.sum(0), 1, atol=1e-5)
    assert (probability.argmax(0) != truth).any()
    assert (refined.argmax(0) == truth).all()


def test_tensors_and_strides_make_no_difference():
    pytest.importorskip("pydensecrf")
    image, probability = two_halves()
    expected = DenseCRF(iterations=3)(image, probability)
    strided = torch.from_numpy(probability).permute(1, 2, 0).contiguous().permute(2, 0, 1)
    mirrored = image[:, ::-1].copy()[:, ::-1]
    np.testing.assert_array_equal(DenseCRF(iterations=3)(torch.from_numpy(image), strided), expected)
    np.testing.assert_array_equal(DenseCRF(iterations=3)(mirrored, probability), expected)


def test_without_pairs_it_is_the_clipped_probability():
    pytest.importorskip("pydensecrf")
    image, probability = two_halves()
    probability[:, :3] = np.array([1, 0])[:, None, None]  # an impossible class, and no infinite energy
    refined = DenseCRF(pos_w=0, bi_w=0)(image, probability)
    clipped = probability.clip(1e-5, 1)
    np.testing.assert_allclose(refined, clipped / clipped.sum(0), atol=1e-4)


def test_one_class_and_one_pixel():
    image = np.zeros((4, 1, 3), np.uint8)
    assert (DenseCRF()(image, np.zeros((1, 4, 1))) == 1).all()
    pytest.importorskip("pydensecrf")
    assert DenseCRF()(image[:1], np.full((3, 1, 1), 1 / 3)).shape == (3, 1, 1)


def test_what_it_refuses(monkeypatch):
    image, probability = two_halves()
    with pytest.raises(ValueError, match="uint8"):
        DenseCRF()(image / 255, probability)
    with pytest.raises(ValueError, match=r"\(K, 20, 31\)"):
        DenseCRF()(image, probability[:, 1:])
    monkeypatch.setitem(sys.modules, "pydensecrf", None)
    monkeypatch.setitem(sys.modules, "pydensecrf.densecrf", None)
    with pytest.raises(UserError, match=r"pip install -e \.\[crf\]"):
        DenseCRF()(image, probability)
