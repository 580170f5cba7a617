"""The sources affinity and irn, by networks that stand for the real ones; confident areas as files, and the command."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from spml.cli.main import main
from spml.config import load_config
from spml.data.dataset import EvaluationSample
from spml.data.lists import read_list
from spml.data.pickled import write_cam_file
from spml.data.samples import read_label
from spml.errors import UserError
from spml.models.affinity import build_irn_model
from spml.models.checkpoint import save_parts
from spml.propagate.affinity_walk import affinity_walk, edge_walk
from spml.propagate.confident import AreasByAlpha, AreasByThreshold
from spml.propagate.pairs import disk_offsets, feature_affinity
from spml.pseudo.affinity import AffinityLabeller
from spml.pseudo.confident import areas_of, confident_list
from spml.pseudo.irn import IrnLabeller
from spml.pseudo.label import build_source, choose_recipe, pseudo_probability

ROOT = Path(__file__).resolve().parents[1]
CPU = torch.device("cpu")
TASKS = ("affinity", "irn")


class Features(torch.nn.Module):
    """The mean colours of the cells, times five: a function of the image alone."""

    def forward(self, image):
        return 5 * F.avg_pool2d(image, 8, ceil_mode=True)


class Edges(torch.nn.Module):
    """Logits of edges: the first channel's means over the cells."""

    def edges(self, image):
        return F.avg_pool2d(image, 4, ceil_mode=True)[:, 0]


def labeller(task, config, folder, flip=False, scales=(1.0,), steps=64, background=0, **more):
    plan = replace(choose_recipe(task).plan(config), flip=flip, scales=scales)
    shared = {"plan": plan, "device": CPU, "cam_dir": folder, "num_classes": 4, "background": background}
    if task == "affinity":
        own = {"model": Features(), "beta": 8.0, "radius": 3, "alpha": 16.0}
        return AffinityLabeller(**shared, steps=steps, **{**own, **more})
    own = {"model": Edges(), "beta": 10.0, "radius": 5, "background_score": 0.25}
    return IrnLabeller(**shared, steps=steps, **{**own, **more})


def sample(size=(40, 48), name="x", seed=0):
    generator = torch.Generator().manual_seed(seed)
    image = F.interpolate(torch.randn(1, 3, 5, 6, generator=generator), size, mode="bilinear")[0]
    return EvaluationSample(name, image, np.zeros((*size, 3), np.uint8), None, None)


def write(folder, cams, name="x"):
    write_cam_file(folder / f"{name}.npy", cams)


def two_cams(size=(40, 48)):
    y, x = np.mgrid[: size[0], : size[1]] / 8
    first, second = np.exp(-((y - 2) ** 2) - (x - 2) ** 2), np.exp(-((y - 3) ** 2) - (x - 4) ** 2)
    return {0: (first / first.max()).astype(np.float32), 2: (second / second.max()).astype(np.float32)}


def test_affinitynets_labels_step_by_step(tiny_config, tmp_path):
    """On whole cells: means of cells, affinity, walk, enlarged; the class without a CAM stays zero."""
    cams, read = two_cams(), sample()
    write(tmp_path, cams)
    got = labeller("affinity", tiny_config, tmp_path)(read)
    assert got.embedding is None and got.score.shape == (4, 40, 48) and not got.score[2].any()
    first, second = torch.from_numpy(cams[0]), torch.from_numpy(cams[2])
    start = torch.stack([(1 - torch.maximum(first, second)) ** 16, first, second])
    start = F.avg_pool2d(start[None], 8)[0]
    affinity = feature_affinity(5 * F.avg_pool2d(read.image[None], 8), disk_offsets(3))[0]
    walked = affinity_walk(affinity, start, disk_offsets(3), 8, 64)
    expected = F.interpolate(walked[None], scale_factor=8, mode="bilinear")[0]
    torch.testing.assert_close(got.score[[0, 1, 3]], expected)


def test_irns_labels_step_by_step(tiny_config, tmp_path):
    cams, read = two_cams(), sample()
    write(tmp_path, cams)
    got = labeller("irn", tiny_config, tmp_path)(read).score
    start = F.avg_pool2d(torch.stack([torch.from_numpy(cams[0]), torch.from_numpy(cams[2])])[None], 4)[0]
    walked = edge_walk(F.avg_pool2d(read.image, 4)[0].sigmoid(), start, 5, 10, 64)
    expected = F.interpolate(walked[None], scale_factor=4, mode="bilinear")[0]
    torch.testing.assert_close(got[[1, 3]], expected / expected.max())
    assert (got[0] == 0.25).all() and not got[2].any() and got.max() == 1


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("size", [(40, 48), (37, 53), (1, 1), (3, 90)])
def test_any_size_and_view(tiny_config, tmp_path, task, size):
    """A mirrored image has the mirrored labels where the cells are whole; views of other sizes are averaged."""
    cams = two_cams(size)
    write(tmp_path, cams)
    read = sample(size)
    for scales in ((1.0,), (0.5, 1.0, 1.5)):
        found = pseudo_probability(labeller(task, tiny_config, tmp_path, True, scales), read, 0)
        assert found.shape == (4, *size) and torch.isfinite(found).all() and found.max() <= 1 + 1e-5
    if size == (40, 48):
        write(tmp_path, {index: cam[:, ::-1] for index, cam in cams.items()}, "mirrored")
        mirrored = replace(read, name="mirrored", image=read.image.flip(-1))
        for flip in (False, True):
            one, other = (labeller(task, tiny_config, tmp_path, flip)(given).score for given in (read, mirrored))
            torch.testing.assert_close(one, other.flip(-1), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("task", TASKS)
def test_images_without_cams(tiny_config, tmp_path, task):
    write(tmp_path, {})
    score = labeller(task, tiny_config, tmp_path)(sample()).score
    assert (score.argmax(0) == 0).all()
    assert labeller(task, tiny_config, tmp_path, background=None)(sample()) is None


@pytest.mark.parametrize("task", TASKS)
def test_without_a_background_every_class_can_have_a_cam(tiny_config, tmp_path, task):
    write(tmp_path, {0: np.full((40, 48), 0.5, np.float32), 3: np.ones((40, 48), np.float32)})
    score = labeller(task, tiny_config, tmp_path, background=None)(sample()).score
    assert (score.argmax(0) == 3).all() and score[0].any() and not score[1:3].any()


def test_what_no_boundary_lets_through_is_background(tiny_config, tmp_path):
    """Edges everywhere leave no CAM: zero scores, and no division by zero."""
    write(tmp_path, two_cams())
    blocked = replace(sample(), image=torch.full((3, 40, 48), 200.0))
    score = labeller("irn", tiny_config, tmp_path)(blocked).score
    assert not score[1:].any() and (score[0] == 0.25).all()


@pytest.mark.parametrize("task", TASKS)
def test_mistakes_of_sources(tiny_config_file, tiny_data, tmp_path, task):
    config = load_config(tiny_config_file, [f"train.task={task}", "losses=none"])
    samples, recipe = read_list(tiny_data / "val.txt", tiny_data), choose_recipe(task)

    def build(own, snapshot="gone.pth", cam_dir=None):
        plan = recipe.plan(own)
        return build_source(own, task, snapshot, plan, CPU, samples, walk_steps=recipe.walk_steps, cam_dir=cam_dir)

    with pytest.raises(UserError, match=f"--source {task}: expected a config whose train.task is {task}, got .* spml"):
        build(load_config(tiny_config_file))
    with pytest.raises(UserError, match=f"--source {task} needs --cam_dir"):
        build(config)
    with pytest.raises(UserError, match=r"val.txt line 1: no CAM file .*0.npy \(8 of the 8 images"):
        build(config, cam_dir=tmp_path)
    with pytest.raises(UserError, match=f"--source {task} needs --snapshot_dir"):
        build(config, snapshot=None)
    write(tmp_path, {7: np.zeros((40, 48), np.float32)})
    with pytest.raises(UserError, match=r"x.npy: expected foreground class indexes 0 to 2, got 7"):
        labeller(task, config, tmp_path)(sample())
    write(tmp_path, {1: np.zeros((4, 4), np.float32)})
    with pytest.raises(UserError, match=r"x.npy: expected a CAM of \(40, 48\) as the image"):
        labeller(task, config, tmp_path)(sample())


@pytest.mark.parametrize(("given", "steps"), [(None, 7), (0, 7), (3, 3)])
def test_the_config_has_the_steps_unless_the_caller_gives_some(tiny_config_file, tiny_data, tmp_path, given, steps):
    config = load_config(tiny_config_file, ["train.task=irn", "irn.steps=7"])
    save_parts(tmp_path / "model-0.pth", {"irn_model": build_irn_model(config)})
    make_cams(tiny_data, tmp_path)
    samples, recipe = read_list(tiny_data / "val.txt", tiny_data), choose_recipe("irn", walk_steps=given)
    snapshot, plan = tmp_path / "model-0.pth", recipe.plan(config)
    source = build_source(config, "irn", snapshot, plan, CPU, samples, walk_steps=recipe.walk_steps, cam_dir=tmp_path)
    assert source.steps == steps


def make_cams(data, folder):
    """CAMs of the tiny images: 0.9 in the object, 0.2 beside it on the left, 0.01 elsewhere."""
    for one in read_list(data / "val.txt", data):
        mask = read_label(one.label)
        cam = np.where(mask > 0, 0.9, np.where(np.arange(48) < 24, 0.2, 0.01)).astype(np.float32)
        write_cam_file(folder / f"{one.name}.npy", {int(mask.max()) - 1: cam})


def test_rules_come_from_the_config(tiny_config_file):
    own = load_config(tiny_config_file, ["train.task=affinity", "affinity.object_alpha=2", "dataset.background=1"])
    expected = AreasByAlpha(objects=2, rest=32, background=1, backend="torch")
    assert areas_of(own, backend="torch") == expected
    own = load_config(tiny_config_file, ["train.task=irn", "irn.background_threshold=0.1", "dataset.background=none"])
    expected = AreasByThreshold(objects=0.3, rest=0.1, background=None, iterations=0, backend="torch")
    assert areas_of(own, backend="torch", crf=False) == expected
    own = load_config(tiny_config_file, ["pipeline.object_threshold=0.7"])
    expected = AreasByThreshold(objects=0.7, rest=0.02, iterations=0, backend="torch")
    assert areas_of(own, backend="torch") == expected
    for task, key in (("affinity", "affinity.object_alpha=40"), ("irn", "irn.object_threshold=0.01")):
        with pytest.raises(UserError, match=r"expected at most (affinity.background_alpha|irn.object_threshold) \("):
            areas_of(load_config(tiny_config_file, [f"train.task={task}", key]))
    with pytest.raises(
        UserError, match=r"pipeline.background_threshold: expected at most pipeline.object_threshold \("
    ):
        areas_of(load_config(tiny_config_file, ["pipeline.background_threshold=0.9"]))


def words_of(config, data, folder, task, *more):
    make_cams(data, folder / "cam")
    words = ["confident", "--config", config, "--cam_dir", folder / "cam", "--save_dir", folder / "sure", *more]
    return [*map(str, words), "--device", "cpu", f"train.task={task}"]


@pytest.mark.parametrize("task", TASKS)
def test_the_command(tiny_config_file, tiny_data, tmp_path, inline_refiner, task, capsys):
    """Without a CRF the levels decide: 0.9 is an object, 0.2 neither, 0.01 background (0.99^32 = 0.72)."""
    words = words_of(tiny_config_file, tiny_data, tmp_path, task, "--no-crf")
    assert not main(words)
    assert "8 images labelled, 0 were there already" in capsys.readouterr().out
    for one in read_list(tmp_path / "sure/list.txt", tiny_data, columns=3):
        mask, found = read_label(tiny_data / "mask" / f"{one.name}.png"), read_label(one.label)
        between = np.broadcast_to(np.arange(48) < 24, mask.shape)
        # (1 - 0.2)^4 = 0.41 > 0.2 > 0.8^32, and 0.3 > 0.2 > 0.05
        assert (found == np.where(mask > 0, mask, np.where(between, 255, 0))).all()
    assert not main(words)
    assert "0 images labelled, 8 were there already" in capsys.readouterr().out
    key = {"affinity": "affinity.object_alpha=1", "irn": "irn.object_threshold=0.1"}[task]
    with pytest.raises(UserError, match="objects .*expected another folder, or --overwrite"):
        main([*words, key])
    assert not main([*words, "--overwrite", key])
    changed = read_label(tmp_path / "sure/semantic_gray/0.png")
    assert ((changed == 255).sum() == 0) == (task == "irn")


def test_the_command_with_its_crf(tiny_config_file, tiny_data, tmp_path, inline_refiner):
    assert not main(words_of(tiny_config_file, tiny_data, tmp_path, "affinity"))
    for one in read_list(tmp_path / "sure/list.txt", tiny_data):
        mask, found = read_label(tiny_data / "mask" / f"{one.name}.png"), read_label(one.label)
        assert set(np.unique(found)) <= {0, mask.max(), 255}
        assert (found[mask > 0] == mask[mask > 0]).mean() > 0.9


def test_mistakes_of_the_command(tiny_config_file, tiny_data, tmp_path):
    words = words_of(tiny_config_file, tiny_data, tmp_path, "affinity", "--no-crf")
    (tmp_path / "cam/3.npy").unlink()
    with pytest.raises(UserError, match=r"no CAM file .*3.npy \(1 of the 8 images"):
        main(words)


def test_an_image_without_any_class_is_unlabelled_where_none_is_background(tiny_config_file, tiny_data, tmp_path):
    config = load_config(tiny_config_file, ["train.task=irn", "dataset.background=none"])
    samples = read_list(tiny_data / "val.txt", tiny_data)[:1]
    write(tmp_path / "cam", {}, samples[0].name)
    told = confident_list(
        config, samples, tmp_path / "cam", areas_of(config, backend="torch"), tmp_path / "sure", crf_workers=1
    )
    assert "1 without a pixel of any class are unlabelled" in told
    assert (read_label(tmp_path / "sure/semantic_gray/0.png") == 254).all()


@pytest.mark.slow
def test_two_processes_write_what_one_does(tiny_config_file, tiny_data, tmp_path):
    make_cams(tiny_data, tmp_path / "cam")
    config = load_config(tiny_config_file, ["train.task=irn"])
    save_parts(tmp_path / "model-0.pth", {"irn_model": build_irn_model(config)})
    own = ["--config", tiny_config_file, "--cam_dir", tmp_path / "cam", "--device", "cpu"]
    own += ["--data_list", tiny_data / "val.txt"]
    commands = (["pseudo-label", *own, "--snapshot_dir", tmp_path, "--source", "irn"], ["confident", *own, "--no-crf"])
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m", "spml"]
    for words in commands:
        for name, start in (("one", [sys.executable, "-m", "spml"]), ("two", torchrun)):
            line = [*start, *words, "--save_dir", tmp_path / words[0] / name, "train.task=irn"]
            environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
            done = subprocess.run(list(map(str, line)), env=environment, capture_output=True, text=True, timeout=300)
            assert done.returncode == 0, done.stderr[-2000:]
        for one in read_list(tiny_data / "val.txt", tiny_data):
            path = f"semantic_gray/{one.name}.png"
            found = [read_label(tmp_path / words[0] / name / path) for name in ("one", "two")]
            assert (found[0] == found[1]).all()
