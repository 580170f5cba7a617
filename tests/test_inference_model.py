"""`spml.load`: a model in Python does what the command line does, and comes back from a folder as it was."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from spml import records
from spml.config import load_config, save_config
from spml.data.lists import read_list
from spml.data.pickled import read_memory_file, write_memory_file
from spml.data.samples import DataError, Sample
from spml.errors import UserError
from spml.inference.loading import load
from spml.inference.memory import fill_memory
from spml.inference.model import Model
from spml.inference.prediction import Prediction
from spml.inference.predictors import build_predictor, predict_list
from spml.inference.segmenter import Segmenter
from spml.inference.views import ViewPlan
from spml.models import build_classifier, build_embedding_model, save_checkpoint
from spml.models.cam import build_cam_model
from spml.propagate import DenseCRF

CPU = torch.device("cpu")


@pytest.fixture
def config(tiny_config_file):
    """The tiny one, with sliding crops and a resized image, so that nothing is trivial."""
    words = ["test.image_size=44", "test.crop_size=[32,40]", "test.stride=[24,24]"]
    return load_config(tiny_config_file, words)


@pytest.fixture
def samples(config):
    return read_list(config.dataset.train_data_list, config.dataset.data_dir)


@pytest.fixture
def folder(config, tmp_path):
    """A snapshot with its config, as training leaves it."""
    torch.manual_seed(3)
    folder = tmp_path / "run"
    folder.mkdir()
    save_checkpoint(folder / "model-3.pth", build_embedding_model(config), build_classifier(config))
    save_config(config, folder / "config.yaml")
    return folder


@pytest.fixture
def model(folder):
    return load(folder, device="cpu")


def written(folder, kind="semantic_gray"):
    return {path.stem: np.array(Image.open(path)) for path in sorted((folder / kind).glob("*.png"))}


@pytest.mark.parametrize(("scales", "flip"), [(None, None), ([0.5, 1.2], True)])
def test_softmax_as_the_command_line(config, folder, model, samples, tmp_path, scales, flip):
    plan = ViewPlan.from_config(config)
    plan = plan if scales is None else replace(plan, scales=tuple(scales), flip=flip)
    predictor = build_predictor(config, "softmax", folder / "model-3.pth", plan, CPU)
    predict_list(config, samples[:3], predictor, tmp_path / "out")
    expected = written(tmp_path / "out")
    images = [
        samples[0].image,
        Image.open(samples[1].image),
        np.array(Image.open(samples[2].image)),
    ]
    found = list(model.predict(images, scales=scales, flip=flip))
    assert len(found) == 3
    for prediction, label in zip(found, expected.values(), strict=True):
        assert isinstance(prediction, Prediction) and prediction.label.dtype == np.uint8
        np.testing.assert_array_equal(prediction.label, label)
        assert prediction.probability.shape == (4, 40, 48) and prediction.probability.dtype == np.float32
        np.testing.assert_allclose(prediction.probability.sum(0), 1, atol=1e-5)
        assert (prediction.probability.argmax(0) == label).mean() > 0.9  # by another way to resize
        assert prediction.segments.shape == (40, 48) and prediction.segments.dtype == np.int32
        assert prediction.classes == ("background", "red", "green", "blue")
    single = model.predict(str(samples[0].image), scales=scales, flip=flip)
    np.testing.assert_array_equal(single.label, found[0].label)
    many = model.predict(np.stack([images[2], images[2]]), scales=scales, flip=flip)
    assert [np.array_equal(one.label, found[2].label) for one in many] == [True, True]


def test_retrieval_as_the_command_line(config, folder, samples, tmp_path):
    plan = ViewPlan.from_config(config)
    model = load(folder, device="cpu")
    segmenter = Segmenter.from_config(config, model.embedding, plan, CPU)
    fill_memory(config, samples[:5], segmenter, folder / "memory")
    predictor = build_predictor(config, "retrieval", folder / "model-3.pth", plan, CPU, folder / "memory")
    predict_list(config, samples[5:], predictor, tmp_path / "out")
    model = load(folder / "model-3.pth", device="cpu")
    labels, clusters = written(tmp_path / "out"), written(tmp_path / "out", "semantic_cluster")
    for sample in samples[5:]:
        found = model.predict(sample.image, predictor="retrieval")
        np.testing.assert_array_equal(found.label, labels[sample.name])
        np.testing.assert_array_equal(found.segments, clusters[sample.name])
    remembering = load(folder, device="cpu")
    remembering.memory_dir = None
    with pytest.raises(UserError, match="predictor retrieval: expected a memory: fill one by remember"):
        remembering.predict(samples[5].image, predictor="retrieval")
    count = remembering.remember(samples[:5])
    assert count == sum(
        len(read_memory_file(path)[0]) for path in (folder / "memory" / "semantic_prototype").glob("*.npy")
    )
    for sample in samples[5:]:
        found = remembering.predict(sample.image, predictor="retrieval")
        np.testing.assert_array_equal(found.label, labels[sample.name])
    remembering.save(tmp_path / "saved")
    one, other = (records.read(place / "memory" / "semantic_prototype") for place in (folder, tmp_path / "saved"))
    assert other.complete and other.weights == one.weights and other.contents == one.contents


def test_a_crf_as_the_command_line(config, folder, model, samples, tmp_path, inline_refiner):
    crf = DenseCRF(iterations=3, backend="torch")
    predictor = build_predictor(config, "softmax", folder / "model-3.pth", ViewPlan.from_config(config), CPU)
    predict_list(config, samples[:1], predictor, tmp_path / "out", crf=crf, crf_workers=1)
    found = model.predict(samples[0].image, crf=crf)
    np.testing.assert_array_equal(found.label, written(tmp_path / "out")["0"])
    assert (model.predict(samples[0].image, crf=True).label.shape) == (40, 48)


def test_the_embedding(model, samples):
    found = model.embed(samples[0].image)
    assert found.shape == (10, 12, 8) and found.dtype == np.float32  # 36 x 44 pixels, 5 x 6 cells of 8 doubled
    np.testing.assert_allclose(np.linalg.norm(found, axis=2), 1, rtol=1e-5)
    model.config.test.image_size = 0
    pixels = np.array(Image.open(samples[0].image))
    network = model.config.network
    image = (torch.from_numpy(pixels).float() / 255 - torch.tensor(network.pixel_means)) / torch.tensor(
        network.pixel_stds
    )
    with torch.no_grad():
        expected = F.normalize(model.embedding(image.permute(2, 0, 1)[None]), dim=1)[0].permute(1, 2, 0)
    np.testing.assert_allclose(model.embed(pixels), expected.numpy(), atol=1e-4)


def test_a_saved_model_comes_back(model, samples, tmp_path):
    arrays = []
    for sample in samples[:4]:
        image, label = np.array(Image.open(sample.image)), np.array(Image.open(sample.label))
        arrays.append(Sample(image, label))
    count = model.remember(arrays)
    before = [model.predict(samples[6].image, predictor=kind).label for kind in ("softmax", "retrieval")]
    path = model.save(tmp_path / "saved")
    assert path == tmp_path / "saved" / "model-3.pth"
    assert (tmp_path / "saved" / "classes.txt").read_text().split() == ["background", "red", "green", "blue"]
    (tmp_path / "saved").rename(tmp_path / "moved")
    again = load(tmp_path / "moved", device="cpu")
    assert again.classes == model.classes
    after = [again.predict(samples[6].image, predictor=kind).label for kind in ("softmax", "retrieval")]
    for one, other in zip(before, after, strict=True):
        np.testing.assert_array_equal(one, other)
    assert records.read(tmp_path / "moved" / "memory" / "semantic_prototype").notes["prototypes"] == count
    again.save(tmp_path / "moved")  # onto itself
    again.name = "model-9.pth"
    with pytest.raises(UserError, match="holds the snapshot model-3.pth already"):
        again.save(tmp_path / "moved")


def test_released_files(config, folder, samples, tmp_path):
    """A snapshot without a config beside it takes one; a memory without a record is taken as it is."""
    (folder / "config.yaml").rename(tmp_path / "c.yaml")
    with pytest.raises(UserError, match="model-3.pth: no config.yaml beside it: expected config="):
        load(folder)
    one, other = load(folder, tmp_path / "c.yaml", "cpu"), load(folder, config, CPU)
    np.testing.assert_array_equal(one.predict(samples[0].image).label, other.predict(samples[0].image).label)
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(30, 8)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    write_memory_file(tmp_path / "released" / "semantic_prototype" / "a.npy", rows, rng.integers(0, 4, 30))
    recalling = load(folder, config, "cpu", memory=tmp_path / "released")
    assert recalling.predict(samples[0].image, predictor="retrieval").label.max() < 4
    recalling.save(tmp_path / "saved")
    assert records.read(tmp_path / "saved" / "memory" / "semantic_prototype") is None
    assert len(load(tmp_path / "saved", device="cpu")._load_memory().prototype) == 30


def test_a_snapshot_without_classifier_needs_a_memory(config, samples, tmp_path):
    save_checkpoint(tmp_path / "model-3.pth", build_embedding_model(config))
    model = load(tmp_path, config, "cpu")
    with pytest.raises(UserError, match="no classifier and no memory"):
        model.predict(samples[0].image)
    with pytest.raises(UserError, match="predictor softmax: this model has no classifier"):
        model.predict([samples[0].image], predictor="softmax")
    model.remember(samples[:3])
    assert model.predict(samples[0].image).segments.max() < 9
    save = model.save(tmp_path / "saved")
    assert load(save, device="cpu").classifier is None


def test_a_memory_of_other_weights_is_refused(config, folder, samples):
    model = load(folder, device="cpu")
    segmenter = Segmenter.from_config(config, model.embedding, ViewPlan.from_config(config), CPU)
    fill_memory(config, samples[:3], segmenter, folder / "memory")
    save_checkpoint(folder / "model-4.pth", build_embedding_model(config), build_classifier(config))
    newer = load(folder, device="cpu")
    newer.predict(samples[0].image)  # softmax asks for no memory
    with pytest.raises(UserError, match="memory: the memory was made by another network .*weights.segmenter.model"):
        newer.predict(samples[0].image, predictor="retrieval")


def test_what_cannot_be_meant(config, folder, model, samples, tmp_path):
    with pytest.raises(UserError, match="spml.load .*none: expected a snapshot or a folder"):
        load(tmp_path / "none")
    with pytest.raises(UserError, match="expected cpu, cuda"):
        load(folder, device="tpu")
    with pytest.raises(UserError, match="memory: no folder .*none; expected one that `spml memory`"):
        load(folder, memory=tmp_path / "none")
    with pytest.raises(UserError, match="samples: expected a list of spml.Sample, got one spml.Sample"):
        model.remember(samples[0])
    with pytest.raises(DataError, match="cannot read image .*none.png: no such file"):
        model.predict(tmp_path / "none.png")
    with pytest.raises(DataError, match=r"expected \(H, W, 3\) uint8, got \(4, 4\)"):
        model.predict(np.zeros((4, 4), np.uint8))
    with pytest.raises(UserError, match="predictor: expected one of retrieval, softmax, got 'magic'"):
        model.predict(samples[0].image, predictor="magic")
    for wrong in ({"crf": "yes"}, {"flip": "yes"}):
        with pytest.raises(UserError, match="expected True, False or .*, got 'yes'"):
            model.predict(samples[0].image, **wrong)
    with pytest.raises(UserError, match="image: expected a path, a PIL image or .*, got NoneType"):
        model.predict(None)
    for scales in ([], [0], [-1.0], [float("nan")], 1.0, ["a"]):
        with pytest.raises(UserError, match="scales: expected a list of numbers above 0"):
            model.predict(samples[0].image, scales=scales)
    for given, message in (
        ([], "at least one, got none"),
        ([(1, 2)], "each to be a spml.Sample, got tuple at place 0"),
    ):
        with pytest.raises(UserError, match=f"samples: expected {message}"):
            model.remember(given)
    with pytest.raises(UserError, match="no label: a memory needs"):
        model.remember([Sample(samples[0].image)])
    with pytest.raises(UserError, match="no segment of the 1 images of the samples has a label"):
        model.remember([Sample(np.zeros((9, 9, 3), np.uint8), np.full((9, 9), 254, np.uint8))])
    cam = load_config(folder / "config.yaml", ["network.prediction_types=cam"])
    save_checkpoint(tmp_path / "model-0.pth", build_cam_model(cam))
    with pytest.raises(UserError, match="expected a snapshot of an embedding network"):
        load(tmp_path, cam)


def test_any_size(model):
    for size in ((1, 1), (3, 70), (65, 2)):
        found = model.predict(np.zeros((*size, 3), np.uint8))
        assert found.label.shape == size and found.probability.shape == (4, *size) and found.segments.shape == size
        assert model.embed(np.zeros((*size, 3), np.uint8)).ndim == 3


def test_a_prediction_is_saved_and_drawn(model, samples, tmp_path):
    found = model.predict(samples[0].image)
    found.save(tmp_path / "deep" / "a.png")
    saved = Image.open(tmp_path / "deep" / "a.png")
    assert saved.mode == "P"
    np.testing.assert_array_equal(np.array(saved), found.label)
    assert found.overlay().size == (48, 40) and found.overlay().mode == "RGB"
    with pytest.raises(UserError, match="alpha: expected 0 to 1, got 5"):
        found.overlay(5)
    with pytest.raises(UserError, match="a.jpg: expected a file name that ends in .png"):
        found.save(tmp_path / "a.jpg")


@pytest.mark.gpu
def test_on_a_gpu(folder, samples):
    model, reference = load(folder, device="cuda"), load(folder, device="cpu")
    assert isinstance(model, Model)
    model.remember(samples[:4]), reference.remember(samples[:4])
    for kind in ("softmax", "retrieval"):
        one, other = (m.predict(samples[5].image, predictor=kind, crf=True).label for m in (model, reference))
        assert (one == other).mean() > 0.98
    np.testing.assert_allclose(model.embed(samples[0].image), reference.embed(samples[0].image), atol=1e-3)
