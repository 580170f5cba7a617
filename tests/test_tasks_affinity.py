"""The tasks affinity and irn: terms, rates, frozen backbones, errors; and that their walks improve activation maps."""

import numpy as np
import pytest
import torch

from spml.config import load_config
from spml.data.lists import read_list
from spml.data.pickled import write_cam_file
from spml.data.samples import read_label
from spml.engine.optimizer import build_optimizer
from spml.engine.run import build_task, train
from spml.errors import UserError
from spml.losses.affinity import PairKinds, affinity_terms, cell_label, displacement_terms
from spml.models import build_cam_model
from spml.models.checkpoint import list_snapshots, save_parts
from spml.propagate.cam import tag_label
from spml.propagate.pairs import disk_offsets, feature_affinity, path_affinity
from spml.pseudo.confident import areas_of, confident_list
from spml.pseudo.label import build_source, choose_recipe, label_list

CPU = torch.device("cpu")
TASKS = ("affinity", "irn")


def config_of(config_file, task, *more):
    return load_config(config_file, [f"train.task={task}", "losses=none", *more])


def batch_of(size=32, seed=5):
    """Two images whose labels are large patches, with unlabelled, void and padded parts."""
    generator = torch.Generator().manual_seed(seed)
    label = torch.zeros(2, size, size, dtype=torch.int64)
    label[0, : size // 2], label[0, size // 2 :, size // 2 :] = 2, 254
    label[1, :, : size // 3], label[1, :4] = 1, 255
    inside = torch.ones_like(label, dtype=torch.bool)
    inside[1, :, -3:] = False
    label[~inside] = 255
    image = torch.randn(2, 3, size, size, generator=generator) * inside[:, None]
    return {"image": image, "semantic_label": label, "inside": inside}


def test_terms_are_those_of_the_losses(tiny_config_file):
    batch = batch_of()
    task = build_task(config_of(tiny_config_file, "affinity", "affinity.radius=3")).eval()
    kinds = PairKinds.of(cell_label(batch["semantic_label"], 8, 4), disk_offsets(3), 4)
    expected = affinity_terms(feature_affinity(task.affinity_model(batch["image"]), disk_offsets(3)), kinds)
    assert task.weights == {"background": 0.25, "objects": 0.25, "different": 0.5}
    got = task(batch)
    assert all(value > 0 for value in got.values())
    torch.testing.assert_close(got, expected)
    task = build_task(config_of(tiny_config_file, "irn")).eval()
    offsets = disk_offsets(10)
    kinds = PairKinds.of(cell_label(batch["semantic_label"], 4, 4), offsets, 4)
    edge, displacement = task.irn_model(batch["image"])
    expected = affinity_terms(path_affinity(edge.sigmoid(), offsets), kinds)
    expected |= displacement_terms(displacement, kinds, offsets)
    got = task(batch)
    assert all(value > 0 for value in got.values()) and set(got) == set(task.weights)
    torch.testing.assert_close(got, expected)
    assert task.weights["displacement_objects"] == task.weights["displacement_background"] == 0.5


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("background", ["0", "2", "none"])
def test_any_background(tiny_config_file, task, background):
    built = build_task(config_of(tiny_config_file, task, f"dataset.background={background}")).eval()
    found = built(batch_of())
    assert all(torch.isfinite(value) for value in found.values())
    assert (found["background"] == 0) == (background == "none")
    assert found["objects"] > 0 and found["different"] > 0
    pictures = built.pictures(batch_of())
    assert {*pictures} == {"confident areas", "boundaries"}
    assert all(picture.shape == (32, 32, 3) and picture.dtype == np.uint8 for picture in pictures.values())


@pytest.mark.parametrize("task", TASKS)
def test_nothing_labelled_is_no_loss(tiny_config_file, task):
    batch = batch_of()
    batch["semantic_label"][:] = 255
    built = build_task(config_of(tiny_config_file, task))
    found = built(batch)
    assert all(value.item() == 0 for value in found.values())
    sum(found.values()).backward()
    assert all(p.grad is not None and not p.grad.any() for p in built.parameters())


@pytest.mark.parametrize("task", TASKS)
def test_bf16(tiny_config_file, task):
    config = config_of(tiny_config_file, task, "train.amp=bf16")
    built = build_task(config)
    half = built(batch_of())
    config.train.amp = "off"
    for name, value in built(batch_of()).items():
        assert half[name].dtype == torch.float32
        torch.testing.assert_close(half[name], value, rtol=0.15, atol=0.05)


def test_released_rates(tiny_config_file):
    task = build_task(config_of(tiny_config_file, "irn"))
    groups = build_optimizer(task, 0.9).param_groups
    by_rate = {m: {id(p) for g in groups if g["multiplier"] == m for p in g["params"]} for m in (1, 2, 10, 20)}
    assert {id(p) for p in task.irn_model.edge.parameters()} <= by_rate[1] and not by_rate[20]
    assert {id(p) for p in task.irn_model.displacement_last.parameters()} <= by_rate[10]
    assert len({p for found in by_rate.values() for p in found}) == len(list(task.parameters()))
    task = build_task(config_of(tiny_config_file, "affinity"))
    groups = {group["multiplier"]: group["params"] for group in build_optimizer(task, 0.9).param_groups}
    assert {*groups} == {1, 2, 10} and len(groups[10]) == 4  # no layer of the head has a bias


def test_a_frozen_backbone_of_the_network_of_cams(tiny_config_file, tmp_path):
    """As IRN is published."""
    cam = build_cam_model(load_config(tiny_config_file, ["network.prediction_types=cam"]))
    save_parts(tmp_path / "model-0.pth", {"cam_model": cam})
    own = [f"network.pretrained={tmp_path}", "network.freeze_backbone=true"]
    task = build_task(config_of(tiny_config_file, "irn", *own)).train()
    assert any("the backbone of its cam_model" in note for note in task.notes)
    build_optimizer(task, 0.9)
    sum(task(batch_of()).values()).backward()
    for name, parameter in task.named_parameters():
        assert parameter.requires_grad == (parameter.grad is not None) == (".resnet_backbone." not in name), name
    for key, value in task.irn_model.encoder.state_dict().items():
        assert torch.equal(value, cam.get_submodule("resnet_backbone").state_dict()[key])


@pytest.mark.parametrize("task", TASKS)
def test_mistakes_are_one_line(tiny_config_file, tmp_path, task):
    small = ["train.batch_size=1", "train.crop_size=[8,8]", "network.kmeans_num_clusters=[2,2]"]
    with pytest.raises(UserError, match="train.batch_size: expected at least 2 for the batch norms"):
        train(config_of(tiny_config_file, task, *small), tmp_path, device="cpu")
    with pytest.raises(UserError, match=f"{task}.radius: expected an integer in 2..32, got 1"):
        config_of(tiny_config_file, task, f"{task}.radius=1")
    with pytest.raises(UserError, match="the loss is not finite at step"):
        long = ["train.base_lr=1e30", "train.max_iteration=9", "train.tensorboard_step=1", "train.warmup_iteration=0"]
        train(config_of(tiny_config_file, task, *long), tmp_path, device="cpu")


def make_cams(data, folder):
    """CAMs that see the middle of each object, and a little of what lies around it."""
    for sample in read_list(data / "val.txt", data):
        mask = read_label(sample.label)
        rows, columns = np.nonzero(mask)
        y, x = np.mgrid[: mask.shape[0], : mask.shape[1]]
        cam = np.exp(-(((y - rows.mean()) ** 2 + (x - columns.mean() - 3) ** 2) / 2 / 7**2))
        write_cam_file(folder / f"{sample.name}.npy", {int(mask.max()) - 1: (cam / cam.max()).astype(np.float32)})


def accuracy(data, label_of):
    samples = read_list(data / "val.txt", data)
    return float(np.mean([(label_of(sample.name) == read_label(sample.label)).mean() for sample in samples]))


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_a_short_training_improves_the_activation_maps(tiny_config_file, tiny_data, tmp_path, inline_refiner, task):
    """From CAMs of coloured boxes: confident areas, training on them, and labels of the walk."""
    make_cams(tiny_data, tmp_path / "cam")
    steps = ["train.max_iteration=40", "train.warmup_iteration=0", "train.base_lr=0.02", "train.batch_size=4"]
    config = config_of(
        tiny_config_file, task, *steps, "train.image_size=96", "train.crop_size=[80,80]", f"{task}.radius=4"
    )
    samples = read_list(tiny_data / "val.txt", tiny_data)
    told = confident_list(config, samples, tmp_path / "cam", areas_of(config), tmp_path / "sure")
    assert "8 images labelled" in told
    sure = {sample.name: read_label(tmp_path / "sure/semantic_gray" / f"{sample.name}.png") for sample in samples}
    for sample in samples:
        own, mask = sure[sample.name], read_label(sample.label)
        assert {0, int(mask.max())} <= set(np.unique(own).tolist()) <= {0, int(mask.max()), 255}
        assert (own == mask)[own != 255].mean() > 0.85
    config.dataset.train_data_list = str(tmp_path / "sure/list.txt")
    run = train(config, tmp_path / "run", device="cpu")
    assert run.history[-1]["total"] < run.history[0]["total"]
    recipe = choose_recipe(task)
    snapshot, plan = list_snapshots(tmp_path / "run")[-1][1], recipe.plan(config)
    source = build_source(
        config, task, snapshot, plan, CPU, samples, walk_steps=recipe.walk_steps, cam_dir=tmp_path / "cam"
    )
    label_list(config, samples, source, tmp_path / "labels", walk_steps=recipe.walk_steps)

    def before(name):
        cams = np.load(tmp_path / "cam" / f"{name}.npy", allow_pickle=True).item()
        return tag_label(cams, 4, (40, 48))

    after = accuracy(tiny_data, lambda name: read_label(tmp_path / "labels/semantic_gray" / f"{name}.png"))
    assert after > accuracy(tiny_data, before) + 0.02, after
