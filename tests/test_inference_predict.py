"""Prediction on tiny data, against plain loops, and the two scripts."""

import runpy
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from spml.config import load_config
from spml.data.lists import read_list
from spml.data.pickled import read_memory_file
from spml.errors import UserError
from spml.grouping import segment_by_kmeans
from spml.inference.predictors import RetrievalPredictor, SoftmaxPredictor, predict_image, predict_list
from spml.inference.segmenter import Segmenter
from spml.inference.views import ViewPlan, crop_ends
from spml.models import build_classifier, build_embedding_model, save_checkpoint

SCRIPTS = Path(__file__).resolve().parents[1] / "pyscripts" / "inference"
OVERRIDES = [
    "network.backbone_types=panoptic_deeplab_tiny",
    "network.embedding_dim=8",
    "network.kmeans_num_clusters=[3,4]",
    "dataset.num_classes=4",
    "test.crop_size=[40,48]",
    "test.stride=[24,32]",
    "test.image_size=0",
]
SIZES = {"a": (56, 75), "b": (30, 20), "c": (44, 1)}


@pytest.fixture(scope="module")
def config():
    return load_config(None, OVERRIDES)


@pytest.fixture(scope="module")
def models(config):
    torch.manual_seed(3)
    return build_embedding_model(config).eval(), build_classifier(config).eval()


@pytest.fixture(scope="module")
def data(tmp_path_factory, models):
    """Three images with sparse labels, a snapshot and a config file."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for number, (name, size) in enumerate(SIZES.items()):
        Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(folder / f"{name}.png")
        label = np.full(size, 254, np.uint8)
        label[3:9], label[15:18], label[20:25] = number, 3, 255
        Image.fromarray(label).save(folder / f"{name}_label.png")
    (folder / "list.txt").write_text("".join(f"{name}.png {name}_label.png\n" for name in SIZES))
    save_checkpoint(folder / "model-3.pth", *models)
    sections = {}
    for override in OVERRIDES:
        key, value = override.split("=")
        sections.setdefault(key.split(".")[0], []).append(f"  {key.split('.')[1]}: {value}\n")
    (folder / "c.yaml").write_text("".join(f"{name}:\n{''.join(rows)}" for name, rows in sections.items()))
    return folder


def stitched(image, config, make):
    """The average over crops of an image (3, H, W), padded: every pixel collects what the crops say of it."""
    crop, stride = config.test.crop_size, config.test.stride
    height, width = max(image.shape[1], crop[0]), max(image.shape[2], crop[1])
    padded = torch.zeros(1, 3, height, width)
    padded[0, :, : image.shape[1], : image.shape[2]] = image
    found = [[[] for _ in range(width)] for _ in range(height)]
    for bottom in crop_ends(height, crop[0], stride[0]):
        for end in crop_ends(width, crop[1], stride[1]):
            with torch.no_grad():
                values = make(padded[:, :, bottom - crop[0] : bottom, end - crop[1] : end])[0]
            for y in range(crop[0]):
                for x in range(crop[1]):
                    found[bottom - crop[0] + y][end - crop[1] + x].append(values[:, y, x])
    return torch.stack([torch.stack([torch.stack(v).mean(0) for v in row], 1) for row in found], 1)  # (D, H, W)


def predictor_of(kind, config, models, **test):
    changed = load_config(None, [*OVERRIDES, *(f"test.{key}={value}" for key, value in test.items())])
    plan, device = ViewPlan.from_config(changed), torch.device("cpu")
    if kind == "softmax":
        return SoftmaxPredictor(*models, plan, device)
    generator = torch.Generator().manual_seed(5)
    memory = F.normalize(torch.randn(60, 8, generator=generator), dim=1)
    label = torch.randint(0, 4, (60,), generator=generator)
    return RetrievalPredictor(Segmenter.from_config(config, models[0], plan, device), memory, label, 4)


def shares_by_loop(embedding, ignore, predictor):
    """(4, H, W) of one image's (1, D, H, W) embedding: sort the memory for every segment, count the first 20."""
    segments = segment_by_kmeans(embedding, ignore, num_clusters=(3, 4), iterations=10)
    share = torch.zeros(len(segments.prototype), 4)
    for segment, prototype in enumerate(segments.prototype):
        for neighbour in (predictor.memory @ prototype).argsort(descending=True)[:20].tolist():
            share[segment, predictor.memory_label[neighbour]] += 1 / 20
    return share[segments.index].T


@pytest.mark.parametrize("size", SIZES.values())
def test_single_scale_softmax_is_the_stitched_classifier(config, models, size):
    image = torch.randn(3, *size)
    probability, clusters = predict_image(image, predictor_of("softmax", config, models))
    model, classifier = models
    logits = stitched(image, config, lambda crop: classifier(model(crop, crop.shape[-2:])))
    torch.testing.assert_close(probability, logits[:, : size[0], : size[1]].softmax(0), rtol=1e-4, atol=1e-5)
    assert clusters is None


@pytest.mark.parametrize("size", SIZES.values())
def test_single_scale_retrieval_clusters_the_padded_image(config, models, size):
    image, predictor = torch.randn(3, *size), predictor_of("retrieval", config, models)
    probability, clusters = predict_image(image, predictor)
    embedding = stitched(image, config, lambda crop: F.normalize(models[0](crop, crop.shape[-2:]), dim=1))
    ignore = torch.full((1, *embedding.shape[1:]), 255)
    ignore[:, : size[0], : size[1]] = 0
    expected = shares_by_loop(embedding[None], ignore, predictor).reshape(4, *size)
    assert (probability - expected).abs().amax(0).gt(1e-4).float().mean() < 0.01  # a rounding may move a pixel
    assert clusters.shape == size


def test_whole_views_and_the_votes_of_one_neighbour(config, models):
    """No padding where the image is smaller than a crop, no cut where it is larger; a segment has its nearest label."""
    image = torch.randn(3, 29, 75)
    predictor = predictor_of("retrieval", config, models, crop_size=[0, 0], stride=[0, 0])
    probability, clusters = predict_image(image, replace(predictor, neighbours=1))
    embedding = models[0](image[None], (29, 75))
    segments = segment_by_kmeans(embedding, num_clusters=(3, 4), iterations=10)
    nearest = predictor.memory_label[(segments.prototype @ predictor.memory.T).argmax(1)]
    expected = F.one_hot(nearest[segments.index], 4).T.reshape(4, 29, 75).float()
    assert torch.equal(clusters.flatten(), segments.index)
    torch.testing.assert_close(probability, expected)
    logits, _ = predict_image(image, predictor_of("softmax", config, models, crop_size=[0, 0], stride=[0, 0]))
    torch.testing.assert_close(logits[None], models[1](embedding).softmax(1))


@pytest.mark.parametrize("kind", ["softmax", "retrieval"])
def test_scales_and_mirror_images_are_averaged(config, models, kind):
    image, size, (model, classifier) = torch.randn(3, 50, 61), (50, 61), models
    predictor = predictor_of(kind, config, models, scales=[0.5, 1.2], flip=True, image_size=30)
    probability, _ = predict_image(image, predictor)
    total = torch.zeros(4, *size)
    for scale in (0.5, 1.2):
        height, width = int(scale * 50), int(scale * 61)
        view = F.interpolate(image[None], (height, width), mode="bilinear", align_corners=False)[0]
        for mirrored in (False, True):
            seen = view.flip(-1) if mirrored else view
            if kind == "softmax":
                scores = stitched(seen, config, lambda crop: classifier(model(crop, crop.shape[-2:])))
                scores = scores[:, :height, :width]
            else:
                scores = stitched(seen, config, lambda crop: F.normalize(model(crop, crop.shape[-2:]), dim=1))
                scores = shares_by_loop(scores[None, :, :height, :width], None, predictor).reshape(4, height, width)
            scores = F.interpolate(scores[None], size, mode="bilinear", align_corners=False)[0]
            scores = scores.softmax(0) if kind == "softmax" else scores
            total += scores.flip(-1) if mirrored else scores
    assert (probability - total / 4).abs().amax(0).gt(1e-3).float().mean() < 0.01


def labels_in(folder):
    return {path.stem: np.array(Image.open(path)) for path in sorted((folder / "semantic_gray").glob("*.png"))}


def test_labels_have_the_size_of_their_image_and_are_skipped(config, models, data, tmp_path, capsys):
    predictor = predictor_of("softmax", config, models, image_size=33)
    samples = read_list(data / "list.txt", data)
    assert "3 images predicted, 0 were there" in predict_list(config, samples, predictor, tmp_path)
    labels = labels_in(tmp_path)
    assert {name: label.shape for name, label in labels.items()} == SIZES
    image = Image.open(tmp_path / "semantic_color" / "a.png")
    assert image.mode == "RGB" and image.size == (75, 56)
    (tmp_path / "semantic_gray" / "b.png").unlink()
    Image.fromarray(np.zeros((2, 2), np.uint8)).save(tmp_path / "semantic_gray" / "a.png")
    assert "1 images predicted, 2 were there" in predict_list(config, samples, predictor, tmp_path)
    assert labels_in(tmp_path)["a"].shape == (2, 2)
    predict_list(config, samples, predictor, tmp_path, overwrite=True)
    assert all(np.array_equal(label, labels[name]) for name, label in labels_in(tmp_path).items())


def script(name, data, *words):
    common = ["--cfg_path", data / "c.yaml", "--snapshot_dir", data, "--data_dir", data, "--device", "cpu"]
    main = runpy.run_path(str(SCRIPTS / f"{name}.py"))["main"]
    before = sys.argv
    sys.argv = [name, *map(str, common), "--data_list", str(data / "list.txt"), *map(str, words)]
    try:
        main()
    finally:
        sys.argv = before


def test_memory_and_retrieval_by_script(data, tmp_path, capsys):
    script("prototype", data, "--save_dir", tmp_path / "memory")
    assert "3 images (0 were there already) from the weak labels of" in capsys.readouterr().out
    prototype, label = read_memory_file(tmp_path / "memory" / "semantic_prototype" / "a.npy")
    assert set(label.tolist()) <= {0, 3} and len(label)
    np.testing.assert_allclose(np.linalg.norm(prototype, axis=1), 1, rtol=1e-5)
    script("prototype", data, "--save_dir", tmp_path / "memory")
    assert "3 images (3 were there already)" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"record.json: .* \(.*plan.flip false, now true\): .* or --overwrite"):
        script("prototype", data, "--flip", "--save_dir", tmp_path / "memory")
    script("inference", data, "--semantic_memory_dir", tmp_path / "memory", "--save_dir", tmp_path / "out")
    assert {name: label.shape for name, label in labels_in(tmp_path / "out").items()} == SIZES
    cluster = np.array(Image.open(tmp_path / "out" / "semantic_cluster" / "a.png"))
    grey = labels_in(tmp_path / "out")["a"]
    assert all(len(np.unique(grey[cluster == index])) == 1 for index in np.unique(cluster))
    with pytest.raises(UserError, match="needs --semantic_memory_dir"):
        script("inference", data, "--save_dir", tmp_path / "out")
    with pytest.raises(UserError, match="--approximate is for --predictor retrieval, got softmax"):
        script("inference", data, "--predictor", "softmax", "--approximate", "--save_dir", tmp_path / "out")
    with pytest.raises(UserError, match="--semantic_memory_dir is for --predictor retrieval, got softmax"):
        script(
            "inference", data, "--predictor", "softmax", "--semantic_memory_dir", "x", "--save_dir", tmp_path / "out"
        )


def test_full_masks_are_said(data, tmp_path, capsys):
    common = ["--cfg_path", data / "c.yaml", "--snapshot_dir", data, "--data_dir", data, "--save_dir", tmp_path]
    main = runpy.run_path(str(SCRIPTS / "prototype.py"))["main"]
    words = [*common, "--full_masks", data / "list.txt", "--scales", "0.5,1", "--flip", "--device", "cpu"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["prototype.py", *map(str, words)])
        main()
    assert "FULL MASKS" in capsys.readouterr().out
    script("inference", data, "--semantic_memory_dir", tmp_path, "--save_dir", tmp_path / "out")
    assert "FULL MASKS" in capsys.readouterr().out
    with pytest.raises(UserError, match="full_masks true, now false"):
        script("prototype", data, "--save_dir", tmp_path)


@pytest.mark.parametrize("backend", ("pydensecrf", pytest.param("torch", marks=pytest.mark.slow)))
def test_crf_runs_in_other_processes(data, tmp_path, backend):
    if backend == "pydensecrf":
        pytest.importorskip("pydensecrf")
    words = ["--predictor", "softmax", "--scales", "0.5,1", "--flip", "--crf", "--crf_workers", "1"]
    words += ["--crf_backend", backend]
    script("inference", data, *words, "--save_dir", tmp_path)
    assert {name: label.shape for name, label in labels_in(tmp_path).items()} == SIZES
