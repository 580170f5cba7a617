"""The CRF: what it smooths, what it keeps, what it says; in torch the same as by pydensecrf."""

import sys

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from spml.errors import UserError
from spml.propagate import DenseCRF

BACKENDS = ("pydensecrf", "torch")


def by(backend, **options):
    """The CRF of a backend; skips the test where it is missing."""
    if backend == "pydensecrf":
        pytest.importorskip("pydensecrf", reason="needs pydensecrf, a build of C++")
    return DenseCRF(backend=backend, **options)


def two_halves():
    """A dark and a bright half, and a probability of the second class with noise in it."""
    image = np.zeros((20, 31, 3), np.uint8)
    image[:, 16:] = 200
    second = np.where(np.arange(31) >= 16, 0.7, 0.3) + np.random.default_rng(0).normal(0, 0.15, (20, 31))
    second = second.clip(0, 1)
    return image, np.stack([1 - second, second])


def soft(label, classes, noise, seed=0):
    """Probabilities (K, H, W) as networks give them: blurred masks, with noise in their logits."""
    rng = np.random.default_rng(seed)
    masks = [cv2.GaussianBlur((label == k).astype(np.float32), (0, 0), 4) for k in range(classes)]
    rough = [cv2.GaussianBlur(rng.normal(0, 1, label.shape).astype(np.float32), (0, 0), 2) for _ in masks]
    logit = 4 * np.stack(masks) + 4 * np.stack(rough) + rng.normal(0, noise, (classes, *label.shape))
    return (np.exp(logit) / np.exp(logit).sum(0)).astype(np.float32)


def like_a_photograph(height=70, width=94, seed=0):
    """A label of blobs and an image of their colours with shade and grain."""
    rng = np.random.default_rng(seed)
    fields = [cv2.GaussianBlur(rng.normal(0, 1, (height, width)).astype(np.float32), (0, 0), 9) for _ in range(5)]
    label = np.argmax(fields, 0)
    shade = 40 * np.sin(np.arange(width) / 15) + 20 * np.cos(np.arange(height) / 11)[:, None]
    image = rng.integers(60, 200, (5, 3))[label] + shade[..., None] + rng.normal(0, 5, (height, width, 3))
    return image.clip(0, 255).astype(np.uint8), label


def assert_agree(ours, theirs):
    assert (ours.argmax(0) == theirs.argmax(0)).mean() > 0.999
    assert np.abs(ours - theirs).mean() < 1e-5


@pytest.mark.parametrize("backend", BACKENDS)
def test_noise_goes_and_the_edge_stays(backend):
    image, probability = two_halves()
    truth = np.broadcast_to(np.arange(31) >= 16, (20, 31))
    refined = by(backend)(image, probability)
    assert refined.shape == (2, 20, 31) and refined.dtype == np.float32
    np.testing.assert_allclose(refined.sum(0), 1, atol=1e-5)
    assert (probability.argmax(0) != truth).any()
    assert (refined.argmax(0) == truth).all()
    label = by(backend).label(image, probability)
    assert label.dtype == np.uint8 and (label == truth).all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_tensors_and_strides_make_no_difference(backend):
    image, probability = two_halves()
    crf = by(backend, iterations=3)
    expected = crf(image, probability)
    strided = torch.from_numpy(probability).permute(1, 2, 0).contiguous().permute(2, 0, 1)
    mirrored = image[:, ::-1].copy()[:, ::-1]
    np.testing.assert_array_equal(crf(torch.from_numpy(image), strided), expected)
    np.testing.assert_array_equal(crf(mirrored, probability), expected)


@pytest.mark.parametrize("backend", BACKENDS)
def test_without_pairs_it_is_the_clipped_probability(backend):
    image, probability = two_halves()
    probability[:, :3] = np.array([1, 0])[:, None, None]  # an impossible class, and no infinite energy
    clipped = probability.clip(1e-5, 1)
    for options in ({"pos_w": 0, "bi_w": 0}, {"iterations": 0}):
        refined = by(backend, **options)(image, probability)
        np.testing.assert_allclose(refined, clipped / clipped.sum(0), atol=1e-4)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("shape", ((1, 1), (1, 23), (17, 1), (3, 2)))
def test_small_images(backend, shape):
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    assert (by(backend)(image, np.zeros((1, *shape))) == 1).all()
    refined = by(backend)(image, np.full((3, *shape), 1 / 3))
    np.testing.assert_allclose(refined, np.full((3, *shape), 1 / 3), atol=1e-5)
    assert by(backend)(image[:0], np.zeros((3, 0, shape[1]))).shape == (3, 0, shape[1])


@pytest.mark.parametrize("classes", (2, 3, 21))
@pytest.mark.parametrize("options", ({}, {"pos_xy_std": 3, "bi_xy_std": 20, "bi_rgb_std": 13, "iterations": 5}))
def test_torch_equals_pydensecrf(classes, options):
    image, label = like_a_photograph()
    probability = soft(label % classes, classes, noise=1)
    ours, theirs = by("torch", **options)(image, probability), by("pydensecrf", **options)(image, probability)
    assert (theirs.argmax(0) != probability.argmax(0)).mean() > 0.02  # it had something to do
    assert_agree(ours, theirs)


@pytest.mark.parametrize(
    "classes, noise, chosen",
    [(16, 0.3, slice(10, 11)), (21, 2, slice(200, 201))]
    + [pytest.param(21, noise, slice(None, None, 15), marks=pytest.mark.slow) for noise in (0, 0.5, 3)],
)
def test_torch_equals_pydensecrf_on_photographs(shared, classes, noise, chosen):
    files = sorted((shared / "data" / "msrc_things" / "JPEGImages").iterdir())
    if len(files) < 300:
        pytest.skip("needs the photographs of the folder 'shared'")
    for path in files[chosen]:
        image = np.array(Image.open(path).convert("RGB"))
        label = np.array(Image.open(shared / "data" / "msrc_things" / "segcls" / f"{path.stem}.png"))
        probability = soft(label, classes, noise)
        assert_agree(by("torch")(image, probability), by("pydensecrf")(image, probability))


def test_a_batch_equals_its_images():
    made = [like_a_photograph(24, 30, seed) for seed in range(3)]
    images = np.stack([image for image, _ in made])
    probabilities = np.stack([soft(label, 5, 1, seed) for seed, (_, label) in enumerate(made)])
    given = torch.from_numpy(images), torch.from_numpy(probabilities)
    together = DenseCRF(backend="torch").mean_field(*given)  # as on a GPU
    assert together.shape == (3, 5, 24, 30)
    torch.testing.assert_close(DenseCRF(backend="torch").batch(*given), together, atol=1e-5, rtol=0)
    for image, probability, refined in zip(images, probabilities, together, strict=True):
        np.testing.assert_allclose(DenseCRF(backend="torch")(image, probability), refined, atol=1e-5)
    theirs = by("pydensecrf").batch(images, probabilities)
    torch.testing.assert_close(theirs, together, atol=1e-3, rtol=0)


def test_what_it_refuses():
    image, probability = two_halves()
    for backend in BACKENDS:
        with pytest.raises(ValueError, match="uint8"):
            DenseCRF(backend=backend)(image / 255, probability)
        with pytest.raises(ValueError, match=r"\(K, 20, 31\)"):
            DenseCRF(backend=backend)(image, probability[:, 1:])
    with pytest.raises(UserError, match="expected one of auto, pydensecrf, torch, got 'gpu'"):
        DenseCRF(backend="gpu")
    with pytest.raises(UserError, match=r"bi_rgb_std of the CRF: expected at least 0\.001, got 0"):
        DenseCRF(bi_rgb_std=0)
    with pytest.raises(UserError, match="iterations of the CRF: expected at least 0, got -1"):
        DenseCRF(iterations=-1)


def test_without_pydensecrf(monkeypatch, capsys):
    image, probability = two_halves()
    monkeypatch.setitem(sys.modules, "pydensecrf", None)
    monkeypatch.setitem(sys.modules, "pydensecrf.densecrf", None)
    with pytest.raises(UserError, match=r"pip install -e \.\[crf\]"):
        DenseCRF(backend="pydensecrf")(image, probability)
    with pytest.raises(UserError, match=r"--crf_backend torch"):
        DenseCRF(backend="pydensecrf").with_backend()
    assert capsys.readouterr().out == ""
    assert DenseCRF().with_backend() == DenseCRF(backend="torch")
    assert capsys.readouterr().out == "CRF: pydensecrf is not installed, so torch computes it, with the same result\n"
    np.testing.assert_array_equal(DenseCRF()(image, probability), DenseCRF(backend="torch")(image, probability))


def test_which_backend(capsys):
    by("pydensecrf")
    assert DenseCRF().with_backend().backend == "pydensecrf"
    assert DenseCRF(device=torch.device("cuda")).with_backend().backend == "torch"
    assert DenseCRF(backend="torch").with_backend().backend == "torch"
    assert capsys.readouterr().out == ""


@pytest.mark.gpu
def test_on_cuda():
    image, label = like_a_photograph()
    probability = soft(label, 5, noise=1)
    expected = DenseCRF(backend="torch")(image, probability)
    given = torch.from_numpy(image).cuda()[None], torch.from_numpy(probability).cuda()[None]
    refined = DenseCRF().batch(*given)
    assert refined.is_cuda
    assert_agree(refined[0].cpu().numpy(), expected)
    assert_agree(DenseCRF(device=torch.device("cuda"))(image, probability), expected)
    torch.testing.assert_close(DenseCRF().batch(*given), refined, rtol=0, atol=0)  # no order of atomic sums
