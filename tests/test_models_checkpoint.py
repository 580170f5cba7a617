"""Files of weights: round trips, released and ImageNet forms, and every way a file can be wrong."""

import os

import pytest
import torch
from easydict import EasyDict

from spml.models import CheckpointError, build_classifier, build_embedding_model, load_checkpoint, save_checkpoint

KERNEL = "lfn.smooth_kernel.weight"


def make_config(dataset="VOC2012", embedding_dim=16):
    return EasyDict(
        network={"backbone_types": "panoptic_deeplab_tiny", "embedding_dim": embedding_dim},
        dataset={"dataset": dataset, "num_classes": 4},
    )


def make_models(**kwargs):
    return build_embedding_model(make_config(**kwargs)), build_classifier(make_config(**kwargs))


def same(ours, theirs):
    return all(torch.equal(value, theirs[key]) for key, value in ours.items()) and ours.keys() == theirs.keys()


def imagenet_state(model):
    """The backbone's entries under the names of the released ImageNet file, without batch-norm counters."""
    state = {}
    for key, value in model.backbone.state_dict().items():
        stage = key.split(".")[0]
        new = key.removeprefix("conv1.") if stage == "conv1" else key.replace(stage, f"layer{int(stage[3:]) - 1}", 1)
        if not key.endswith("num_batches_tracked"):
            state[new] = value
    return state | {"fc.weight": torch.zeros(10, 160), "fc.bias": torch.zeros(10)}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model-9.pth"


def test_round_trip(path):
    embedding, classifier = make_models()
    embedding.to(memory_format=torch.channels_last)
    save_checkpoint(path, embedding, classifier)
    assert [file.name for file in path.parent.iterdir()] == ["model-9.pth"]  # no temporary file is left
    content = torch.load(path, weights_only=True)
    assert content.keys() == {"embedding_model", "prediction_model"}
    assert all(value.is_contiguous() for value in content["embedding_model"].values())

    torch.manual_seed(1)
    other, other_classifier = make_models()
    assert not same(embedding.state_dict(), other.state_dict())
    report = load_checkpoint(path, other, other_classifier)
    assert same(embedding.state_dict(), other.state_dict())
    assert same(classifier.state_dict(), other_classifier.state_dict())
    assert str(path) in report
    assert "embedding and classifier" in report


def test_wrapped_models_save_plain_keys(path):
    embedding, classifier = make_models()
    save_checkpoint(path, torch.nn.DataParallel(embedding), torch.nn.DataParallel(classifier))
    content = torch.load(path, weights_only=True)
    assert content["embedding_model"].keys() == embedding.state_dict().keys()
    assert content["prediction_model"].keys() == classifier.state_dict().keys()


def test_module_prefixes_are_removed(path):
    embedding, classifier = make_models()
    wrap = {
        "embedding_model": {f"module.{key}": value for key, value in embedding.state_dict().items()},
        "prediction_model": {f"module.{key}": value for key, value in classifier.state_dict().items()},
    }
    torch.save(wrap, path)
    torch.manual_seed(1)
    other, other_classifier = make_models()
    load_checkpoint(path, other, other_classifier)
    assert same(embedding.state_dict(), other.state_dict())
    assert same(classifier.state_dict(), other_classifier.state_dict())


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_imagenet_file_fills_the_backbone_alone(path, nested, prefix):
    source, _ = make_models()
    state = {prefix + key: value for key, value in imagenet_state(source).items()}
    torch.save({"state_dict": state, "epoch": 3} if nested else state, path)
    torch.manual_seed(1)
    model, classifier = make_models()
    head = {key: value.clone() for key, value in model.head.state_dict().items()}
    report = load_checkpoint(path, model, classifier)
    assert same(source.backbone.state_dict(), model.backbone.state_dict())
    assert same(head, model.head.state_dict())
    assert "ImageNet" in report


def test_imagenet_file_of_another_depth(path):
    source, _ = make_models()
    state = imagenet_state(source)
    state["layer4.0.conv1.weight"] = torch.zeros(1)
    del state["layer1.0.conv1.weight"]
    torch.save(state, path)
    with pytest.raises(CheckpointError, match=r"1 missing: resnet_backbone.res2.0.conv1.weight.*1 unexpected.*res5"):
        load_checkpoint(path, source)


def kernels():
    one = build_embedding_model(make_config("Densepose")).state_dict()[KERNEL] + 1  # (3, 1, 5, 5)
    dense = torch.zeros(3, 3, 5, 5)
    for channel in range(3):
        dense[channel, channel] = one[channel, 0]
    return {
        "released": one,
        "stride 0": one[:1].expand(3, 1, 5, 5),
        "one map": one[:1],
        "flat": one[0, 0],
        "repeated": one.expand(3, 3, 5, 5),
        "diagonal": dense,
    }


@pytest.mark.parametrize("kind", kernels())
def test_forms_of_the_colour_kernel(path, kind):
    model, _ = make_models(dataset="Densepose")
    torch.save({"embedding_model": model.state_dict() | {KERNEL: kernels()[kind]}}, path)
    load_checkpoint(path, model)
    torch.testing.assert_close(model.state_dict()[KERNEL], kernels()["released"], rtol=0, atol=0)


def test_colour_kernel_may_be_missing_but_not_mixed(path):
    model, _ = make_models(dataset="Densepose")
    before = model.state_dict()[KERNEL].clone()
    torch.save({"embedding_model": {key: value for key, value in model.state_dict().items() if key != KERNEL}}, path)
    load_checkpoint(path, model)
    assert torch.equal(model.state_dict()[KERNEL], before)
    torch.save({"embedding_model": model.state_dict() | {KERNEL: torch.randn(3, 3, 5, 5)}}, path)
    with pytest.raises(CheckpointError, match=r"lfn.smooth_kernel.weight expected \(3, 1, 5, 5\) got \(3, 3, 5, 5\)"):
        load_checkpoint(path, model)


def test_misfit_names_counts_keys_shapes_and_changes_nothing(path):
    model, classifier = make_models()
    state = dict(model.state_dict())
    for number in range(5):
        state[f"stranger.{number}"] = torch.zeros(1)
    for key in ("aspp.aspp_1.0.bias", "aspp.aspp_2.0.bias"):
        del state[key]
    torch.save({"embedding_model": state | {"aspp.aspp_3.0.bias": torch.zeros(7)}}, path)
    torch.manual_seed(1)
    other, _ = make_models()
    before = {key: value.clone() for key, value in other.state_dict().items()}
    with pytest.raises(CheckpointError) as error:
        load_checkpoint(path, other)
    message = str(error.value)
    assert "\n" not in message
    assert str(path) in message
    assert "2 missing: aspp.aspp_1.0.bias, aspp.aspp_2.0.bias;" in message
    assert "5 unexpected: stranger.0, stranger.1, stranger.2, ...;" in message
    assert "1 of another shape: aspp.aspp_3.0.bias expected (16,) got (7,)" in message
    assert same(before, other.state_dict())

    # An embedding that fits beside a classifier that does not: nothing is copied either.
    wide = build_classifier(make_config(embedding_dim=8))
    save_checkpoint(path, model, wide)
    with pytest.raises(CheckpointError, match="SoftmaxClassifier.*semantic_classifier.0.weight expected"):
        load_checkpoint(path, other, classifier)
    assert same(before, other.state_dict())


def test_snapshot_without_a_classifier(path):
    model, classifier = make_models()
    torch.save({"embedding_model": model.state_dict(), "prediction_model": {"other.weight": torch.zeros(1)}}, path)
    load_checkpoint(path, model)
    with pytest.raises(CheckpointError, match=r"expected a classifier \(semantic_classifier\.\*\)"):
        load_checkpoint(path, model, classifier)


class Hostile:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("zipped", [True, False])
def test_hostile_pickle_runs_nothing(path, zipped):
    target = path.parent / "proof"
    model, _ = make_models()
    content = {"embedding_model": model.state_dict(), "extra": Hostile(target)}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match="tensors only; refused: .*mkdir") as error:
        load_checkpoint(path, model)
    assert "\n" not in str(error.value)
    assert not target.exists()


@pytest.mark.parametrize("content", [b"", b"garbage", b"PK\x03\x04 cut short"])
def test_corrupt_file(path, content):
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="model-9.pth: expected a PyTorch file of tensors only; [^;]+$"):
        load_checkpoint(path, make_models()[0])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "expected a dict of weights, got list"),
        ({}, "expected weights, found none"),
        ({"embedding_model": 3}, "embedding_model: expected a dict of weights, got int"),
        ({"embedding_model": {"a": 1}}, r"embedding_model\.a: expected a tensor, got int"),
        ({"model": torch.zeros(1)}, "expected a snapshot .* found 'model'"),
        ({"state_dict": 1}, "state_dict: expected a dict of weights, got int"),
    ],
)
def test_unknown_format(path, content, message):
    torch.save(content, path)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(path, make_models()[0])


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(CheckpointError, match="none.pth: cannot be read: No such file"):
        load_checkpoint(tmp_path / "none.pth", make_models()[0])
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_checkpoint(tmp_path, make_models()[0])
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(CheckpointError, match="cannot write .*a.pth: .*file is a file, expected a folder"):
        save_checkpoint(tmp_path / "file" / "a.pth", *make_models())
    save_checkpoint(tmp_path / "new" / "a.pth", *make_models())
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.pth"]
