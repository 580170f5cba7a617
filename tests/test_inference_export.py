"""Models that leave the project: ONNX and safetensors give what PyTorch gives, and come back."""

import json
import re
import sys

import numpy as np
import pytest
import torch

from spml.cli.main import main
from spml.config import load_config
from spml.data.lists import read_list
from spml.errors import UserError
from spml.inference.loading import load
from spml.inference.model import Model
from spml.models import build_classifier, build_embedding_model

CPU = torch.device("cpu")
PACKAGES = ("onnx", "onnxruntime", "safetensors")
NETWORKS = ["panoptic_deeplab_tiny", "panoptic_deeplab_tiny+psp", "panoptic_deeplab_tiny+unet"]
TIMM = ["timm:resnet18+fcn8", "timm:resnet18+deeplab_v3plus", "timm:tf_efficientnet_lite0", "timm:convnext_atto"]


@pytest.fixture(autouse=True)
def packages():
    for name in PACKAGES:
        pytest.importorskip(name)


def build(name, *words):
    backbone, _, head = name.partition("+")
    if backbone.startswith("timm:"):
        pytest.importorskip("timm")
    own = [f"network.backbone_types={backbone}", "network.embedding_dim=8", "dataset.num_classes=4"]
    own += ["test.crop_size=[0,0]", "test.image_size=0", *([f"network.head={head}"] if head else []), *words]
    config = load_config(None, own)
    return Model(config, build_embedding_model(config), build_classifier(config), CPU, runtime="torch")


def picture(height=61, width=90):
    return np.random.default_rng(0).integers(0, 255, (height, width, 3)).astype(np.uint8)


@pytest.mark.parametrize("name", NETWORKS + [pytest.param(name, marks=pytest.mark.slow) for name in TIMM])
def test_onnx_gives_the_same(name, tmp_path):
    """One head a backbone that reads maps of a stride of its own, as each rounds odd sizes in its own place."""
    model = build(name)
    told = model.export(tmp_path / "m.onnx")
    assert float(re.search(r"PyTorch to (\S+) on 2 images and other sizes", told)[1]) < 1e-4
    back = load(tmp_path / "m.onnx")
    for size in ((61, 90), (1, 1), (32, 150)):
        image = picture(*size)
        one, other = model.predict(image), back.predict(image)
        assert (one.label == other.label).mean() > 0.999
        np.testing.assert_allclose(other.probability, one.probability, atol=1e-4)
        np.testing.assert_allclose(back.embed(image), model.embed(image), atol=1e-4)


def test_on_photographs(shared, tmp_path):
    images = sorted((shared / "data").rglob("*.bmp"))[:2] or sorted((shared / "data").rglob("*.jpg"))[:2]
    assert images
    assert "on 2 images" in build("panoptic_deeplab_tiny").export(tmp_path / "m.onnx", images)


def test_scales_crops_and_retrieval_from_a_graph(tiny_config_file, tmp_path):
    words = ["test.scales=[0.5,1.2]", "test.flip=true", "test.crop_size=[32,40]", "test.stride=[24,24]"]
    config = load_config(tiny_config_file, words)
    model = Model(config, build_embedding_model(config), build_classifier(config), CPU, runtime="torch")
    model.export(tmp_path / "m.onnx"), model.export(tmp_path / "m.safetensors")
    samples = read_list(config.dataset.train_data_list, config.dataset.data_dir)
    for name in ("m.onnx", "m.safetensors"):
        back = load(tmp_path / name, device="cpu")
        assert back.classes == ("background", "red", "green", "blue")
        assert back.remember(samples[:4]) == model.remember(samples[:4])
        for kind in ("softmax", "retrieval"):
            one, other = (m.predict(samples[5].image, predictor=kind) for m in (model, back))
            assert (one.label == other.label).mean() > 0.999 and one.segments.shape == other.segments.shape


def test_safetensors_are_the_weights_and_the_settings(tiny_config, tmp_path):
    model = Model(tiny_config, build_embedding_model(tiny_config), build_classifier(tiny_config), CPU)
    assert "tensors" in model.export(tmp_path / "m.safetensors")
    from safetensors import safe_open

    with safe_open(tmp_path / "m.safetensors", "pt") as file:
        notes, keys = file.metadata(), set(file.keys())
    assert keys == {f"embedding_model.{key}" for key in model.embedding.state_dict()} | {
        f"prediction_model.{key}" for key in model.classifier.state_dict()
    }
    assert json.loads(notes["classes"]) == ["background", "red", "green", "blue"]
    assert str(tiny_config.dataset.data_dir) not in str(notes) and notes["backbone"] == "panoptic_deeplab_tiny"
    back = load(tmp_path / "m.safetensors", device="cpu")
    np.testing.assert_array_equal(back.predict(picture()).label, model.predict(picture()).label)
    path = back.save(tmp_path / "saved")
    np.testing.assert_array_equal(load(path, device="cpu").embed(picture()), model.embed(picture()))


def test_a_model_without_classifier(tiny_config, tmp_path):
    model = Model(tiny_config, build_embedding_model(tiny_config), None, CPU)
    for suffix in (".onnx", ".safetensors"):
        model.export(tmp_path / f"m{suffix}")
        back = load(tmp_path / f"m{suffix}", device="cpu")
        np.testing.assert_allclose(back.embed(picture()), model.embed(picture()), atol=1e-4)
        with pytest.raises(UserError, match="no classifier and no memory"):
            back.predict(picture())


def test_the_command(tiny_config_file, tmp_path, capsys):
    config = load_config(tiny_config_file)
    Model(config, build_embedding_model(config), build_classifier(config), CPU).save(tmp_path / "run")
    data = ["--data_list", config.dataset.test_data_list, "--data_dir", str(config.dataset.data_dir)]
    main(["export-model", str(tmp_path / "run"), str(tmp_path / "m.onnx"), *data])
    assert "scores and embedding, as PyTorch to" in capsys.readouterr().out
    main(["export-model", str(tmp_path / "run"), str(tmp_path / "m.safetensors")])
    assert load(tmp_path / "m.safetensors").classes == load(tmp_path / "m.onnx").classes


@pytest.mark.parametrize("name", ["segnet", "timm:vit_tiny_patch16_224"])
def test_networks_without_a_form(name, tmp_path, capfd):
    with pytest.raises(UserError, match="no ONNX form for images of any size") as told:
        build(name).export(tmp_path / "m.onnx")
    assert "\n" not in str(told.value) and not list(tmp_path.iterdir()) and not capfd.readouterr().out


def test_what_cannot_be(tiny_config, tmp_path, monkeypatch):
    model = Model(tiny_config, build_embedding_model(tiny_config), build_classifier(tiny_config), CPU)
    with pytest.raises(UserError, match=r"m.pt: expected a file name that ends in .onnx or .safetensors"):
        model.export(tmp_path / "m.pt")
    model.export(tmp_path / "m.onnx")
    back = load(tmp_path / "m.onnx")
    for call in (lambda: back.save(tmp_path / "s"), lambda: back.export(tmp_path / "n.onnx")):
        with pytest.raises(UserError, match="an ONNX file predicts, embeds and remembers on the CPU"):
            call()
    with pytest.raises(UserError, match="expected device cpu or auto"):
        load(tmp_path / "m.onnx", device="cuda")
    for suffix in (".onnx", ".safetensors"):
        (tmp_path / f"broken{suffix}").write_bytes(b"\0" * 40)
        with pytest.raises(UserError, match=f"broken{suffix}: cannot be read"):
            load(tmp_path / f"broken{suffix}")
    from safetensors.numpy import save_file

    save_file({"a": np.zeros(3)}, tmp_path / "other.safetensors")
    with pytest.raises(UserError, match="other.safetensors: expected a file that model.export wrote"):
        load(tmp_path / "other.safetensors")
    monkeypatch.setattr("spml.inference.export.CLOSE", 0.0)
    monkeypatch.setattr("spml.inference.export._largest_difference", lambda *given: 1e-3)
    with pytest.raises(UserError, match="n.onnx: not written: expected the ONNX graph to give PyTorch's values"):
        model.export(tmp_path / "n.onnx")
    for name, suffix in (("onnx", ".onnx"), ("onnxruntime", ".onnx"), ("safetensors.torch", ".safetensors")):
        with monkeypatch.context() as without:
            without.setitem(sys.modules, name, None)
            with pytest.raises(UserError, match="extra `export`"):
                model.export(tmp_path / f"n{suffix}")
    assert not (tmp_path / "n.onnx").exists()
