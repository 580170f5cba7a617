"""The tasks cam and seam: terms, resuming, two processes, bf16, errors, older snapshots, the script."""

import runpy
import socket
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.multiprocessing as multiprocessing

from spml.config import load_config
from spml.data.annotate_list import annotate_list
from spml.data.dataset import build_training_dataset
from spml.engine import distributed, loop
from spml.engine.optimizer import build_optimizer
from spml.engine.run import build_task, train
from spml.errors import UserError
from spml.losses import seam
from spml.models import load_cam_model
from spml.models.cam import CamOutput
from spml.models.checkpoint import list_snapshots
from spml.tasks.cam import CamTask
from spml.tasks.seam import seam_terms

ROOT = Path(__file__).parent.parent
CPU = torch.device("cpu")
SHORT = ["train.max_iteration=2", "train.warmup_iteration=0"]
SEAM = ["network.prediction_types=seam", "seam.second_view_scale=0.5"]
TERMS = ("classification", "min_pool", "equivariance", "cross_refinement")


@pytest.fixture(scope="module")
def cam_config_file(tiny_config_file, tiny_data, tmp_path_factory):
    """Tiny data with a list of tags and a list of images without labels; plain CAM."""
    folder = tmp_path_factory.mktemp("cam")
    annotate_list(tiny_data, tiny_data / "val.txt", folder, "tag")
    rows = (tiny_data / "val.txt").read_text().splitlines()
    (folder / "images.txt").write_text("".join(row.split()[0] + "\n" for row in rows))
    path = folder / "cam.yaml"
    path.write_text(
        f"""base: "{tiny_config_file}"
dataset: {{train_data_list: "{folder}/images.txt", tags: "{folder}/tags.txt"}}
network: {{prediction_types: cam}}
train: {{batch_size: 4}}
"""
    )
    return path


def model_state(folder, step):
    return [torch.load(folder / f"model-{step}{end}", weights_only=True) for end in (".pth", ".state.pth")]


def batch_of(numbers):
    generator = torch.Generator().manual_seed(5)
    tag = torch.tensor([[1, 1, 0, 0], [1, 0, 1, 1], [1, 0, 0, 0], [0, 0, 0, 1]], dtype=torch.bool)
    batch = {"image": torch.randn(4, 3, 32, 32, generator=generator), "semantic_tag": tag}
    return {name: value[numbers] for name, value in batch.items()}


def two_steps(config_file, numbers):
    """Losses and gradients of two steps at rate 0."""
    config = load_config(config_file, SEAM)
    torch.manual_seed(0)
    task = build_task(config)
    optimizer = build_optimizer(task, 0.9)
    run = loop.replicate(task, CPU)
    losses = [loop.update(run, task.weights, optimizer, batch_of(numbers), 0.0, step) for step in range(2)]
    return losses, {name: p.grad for name, p in task.named_parameters()}, dict(task.named_buffers())


def process(rank, port, config_file, folder):
    torch.set_num_threads(1)
    store = f"tcp://127.0.0.1:{port}"
    torch.distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=2)
    found = two_steps(config_file, [[0, 1], [2, 3]][rank])
    torch.save(found, Path(folder) / f"{rank}.pth")
    distributed.stop()


@pytest.mark.slow
def test_two_processes_do_what_one_does(cam_config_file, tmp_path):
    """Losses, gradients and batch statistics, of both views."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    multiprocessing.spawn(process, (port, str(cam_config_file), str(tmp_path)), nprocs=2)
    losses, gradients, buffers = two_steps(cam_config_file, [0, 1, 2, 3])
    for rank in range(2):
        their_losses, their_gradients, their_buffers = torch.load(tmp_path / f"{rank}.pth", weights_only=True)
        for ours, theirs in zip(losses, their_losses, strict=True):
            assert {*ours} == {"total", *TERMS}
            assert theirs == pytest.approx(ours, rel=1e-4, abs=1e-5)
        for name, gradient in gradients.items():
            torch.testing.assert_close(their_gradients[name], gradient, rtol=2e-3, atol=1e-4, msg=name)
        for name, value in buffers.items():
            torch.testing.assert_close(their_buffers[name], value, rtol=1e-4, atol=1e-5, msg=name)


def test_terms_of_seam_are_those_of_the_losses():
    """Each refined map learns from the raw map of the other view; classification and min-pooling are means of both."""
    generator = torch.Generator().manual_seed(3)
    tag = torch.tensor([[True, False, True], [False, True, False]])

    def output(height, width):
        raw, refined = (torch.randn(2, 3, height, width, generator=generator) for _ in range(2))
        return CamOutput(raw, torch.randn(2, 3, generator=generator), refined.abs(), raw)

    first, second = output(8, 12), output(4, 6)
    terms = seam_terms(first, second, tag)
    halves = [
        (seam.classification_loss(view.logit, tag), seam.min_pool_loss(view.refined, tag)) for view in (first, second)
    ]
    assert terms["classification"].item() == pytest.approx(sum(half[0].item() for half in halves) / 2)
    assert terms["min_pool"].item() == pytest.approx(sum(half[1].item() for half in halves) / 2)
    equivariance = seam.equivariance_loss(first.activation, second.activation, tag)
    torch.testing.assert_close(terms["equivariance"], equivariance)
    raw, refined = (first.activation, second.activation), (first.refined, second.refined)
    right = seam.cross_refinement_loss(*raw, refined, tag)
    wrong = seam.cross_refinement_loss(*raw, refined[::-1], tag)
    torch.testing.assert_close(terms["cross_refinement"], right)
    assert (right - wrong).abs() > 1e-3


def test_each_process_gives_its_share(cam_config_file):
    """What one of two processes returns is half of its own mean: the engine sums."""
    task = build_task(load_config(cam_config_file, SEAM)).eval()
    whole = task(batch_of([0, 1]))
    task.exchange = SimpleNamespace(processes=2)
    for name, share in task(batch_of([0, 1])).items():
        torch.testing.assert_close(2 * share, whole[name])


@pytest.mark.parametrize("kind", ["cam", "seam"])
def test_two_steps_equal_one_and_a_resumed_one(cam_config_file, tmp_path, kind):
    overrides = [*SHORT, *SEAM, f"network.prediction_types={kind}", "train.tensorboard_step=1"]
    config = load_config(cam_config_file, [*overrides, "train.snapshot_step=1"])
    assert train(config, tmp_path, device="cpu").finished
    model, rest = model_state(tmp_path, 1)
    for name in ("model-1.pth", "model-1.state.pth"):
        (tmp_path / name).unlink()
    assert train(config, tmp_path, device="cpu", resume=True).finished
    again, rest_again = model_state(tmp_path, 1)
    assert (
        again["prediction_model"] == again["embedding_model"] == {}
        and again["cam_model"].keys() == model["cam_model"].keys()
    )
    for name, value in model["cam_model"].items():
        assert torch.equal(again["cam_model"][name], value), name
    ours, theirs = rest["optimizer"]["state"], rest_again["optimizer"]["state"]
    assert all(torch.equal(ours[p]["momentum_buffer"], theirs[p]["momentum_buffer"]) for p in ours)
    assert load_config(tmp_path / "config.yaml") == config
    found = load_cam_model(config, tmp_path / "model-1.pth").maps(torch.randn(1, 3, 40, 48))
    assert found.shape == (1, 3, 5, 6) and torch.isfinite(found).all()


def test_every_layer_learns_and_plain_cam_has_one_term(cam_config_file):
    for overrides, terms in (([], TERMS[:1]), (SEAM, TERMS)):
        config = load_config(cam_config_file, overrides)
        task = build_task(config)
        assert task.weights == dict.fromkeys(terms, 1.0)
        losses = task(batch_of([0, 1, 2, 3]))
        assert tuple(losses) == terms and all(value.ndim == 0 and value >= 0 for value in losses.values())
        sum(losses.values()).backward()
        assert all(p.grad is not None and p.grad.any() for p in task.parameters())


def test_released_groups_of_rates(cam_config_file):
    config = load_config(cam_config_file, [*SEAM, "train.freeze_stem=true"])
    task = build_task(config)
    groups = {group["multiplier"]: group for group in build_optimizer(task, 0.9).param_groups}
    assert {*groups} == {1, 2, 10}  # no layer of the head has a bias
    assert len(groups[10]["params"]) == 4 and groups[10]["weight_decay"] == 5e-4
    names = {name for name, p in task.named_parameters() if not p.requires_grad}
    assert names and all(".conv1." in name or ".res2." in name for name in names)


def test_training_learns_the_tags_and_where_they_are(cam_config_file, tiny_data, tmp_path):
    """Coloured boxes on grey: after a short run the classification is right and the maps lie on the boxes."""
    overrides = ["train.max_iteration=30", "train.warmup_iteration=0", "train.base_lr=0.01", "train.batch_size=4"]
    config = load_config(cam_config_file, overrides)
    train(config, tmp_path, device="cpu")
    model = load_cam_model(config, list_snapshots(tmp_path)[-1][1])
    config.train.random_crop = config.train.random_scale = config.train.random_mirror = False
    config.train.shuffle, config.train.crop_size = False, [40, 48]
    config.dataset.tags, config.dataset.train_data_list = "", str(tiny_data / "val.txt")
    dataset = build_training_dataset(config, CamTask.needs)
    right, inside, share = 0, 0.0, 0.0
    for number in range(8):
        item = dataset[number]
        image, tag = item["image"][None], item["semantic_tag"][1:]
        right += int(model(image).logit.argmax()) == int(tag.long().argmax())
        maps = torch.nn.functional.interpolate(model.maps(image), (40, 48), mode="bilinear")[0, tag][0]
        box = item["semantic_label"] > 0
        inside += float(maps[box].sum() / maps.sum()) / 8
        share += float(box.float().mean()) / 8
    assert right == 8 and inside > 1.5 * share, (right, inside, share)


def test_bf16(cam_config_file):
    config = load_config(cam_config_file, [*SEAM, "train.amp=bf16"])
    torch.manual_seed(0)
    task = build_task(config)
    half = task(batch_of([0, 1]))
    config.train.amp = "off"
    full = task(batch_of([0, 1]))
    for name in TERMS:
        assert half[name].dtype == torch.float32
        torch.testing.assert_close(half[name], full[name], rtol=0.1, atol=0.05)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["dataset.tags=gone.txt"], "dataset.tags gone.txt: expected a text file"),
        (["dataset.tags="], "no tags: expected a file dataset.tags, or a semantic label"),
        ([*SEAM, "seam.second_view_scale=0.2", "train.batch_size=1"], "train.batch_size: expected at least 2"),
        (["train.base_lr=1e30", "train.max_iteration=30", *SEAM], "the loss is not finite at step .*cross_refinement"),
    ],
)
def test_mistakes_are_one_line(cam_config_file, tmp_path, overrides, message):
    config = load_config(cam_config_file, ["train.warmup_iteration=0", "train.tensorboard_step=1", *overrides])
    with pytest.raises(UserError, match=message):
        train(config, tmp_path, device="cpu")
    assert not list_snapshots(tmp_path)


def test_a_snapshot_of_the_other_kind_is_not_resumed(cam_config_file, tmp_path):
    train(load_config(cam_config_file, SHORT), tmp_path, device="cpu")
    with pytest.raises(UserError, match='settings.train.task "cam", now "seam"'):
        train(load_config(cam_config_file, [*SHORT, *SEAM]), tmp_path, device="cpu", resume=True)
    (tmp_path / "record.json").unlink()
    with pytest.raises(UserError, match="does not fit CamModel.*missing: pixel_correlation"):
        train(load_config(cam_config_file, [*SHORT, *SEAM]), tmp_path, device="cpu", resume=True)


def test_runs_of_older_versions_go_on(cam_config_file, tmp_path):
    """Their snapshots hold the network under another name, and their folders no record."""
    config = load_config(cam_config_file, [*SHORT, "train.snapshot_step=1"])
    train(config, tmp_path, device="cpu")
    expected = model_state(tmp_path, 1)[0]["cam_model"]
    for name in ("model-1.pth", "model-1.state.pth", "record.json"):
        (tmp_path / name).unlink()
    content = torch.load(tmp_path / "model-0.pth", weights_only=True)
    older = {"embedding_model": content["cam_model"], "prediction_model": {}}
    torch.save(older, tmp_path / "model-0.pth")
    assert train(config, tmp_path, device="cpu", resume=True).history[0]["step"] == 1
    for name, value in model_state(tmp_path, 1)[0]["cam_model"].items():
        assert torch.equal(value, expected[name]), name
    started = build_task(load_config(cam_config_file, [f"network.pretrained={tmp_path / 'model-0.pth'}"]))
    assert torch.equal(started.parts["cam_model"].class_weight.weight, content["cam_model"]["class_weight.weight"])


def test_the_script_with_tags_of_its_own(cam_config_file, tmp_path, monkeypatch, capsys):
    tags = tmp_path / "tags.txt"
    tags.write_text("".join(f"{number} red\n" for number in range(7)))
    words = ["--cfg_path", str(cam_config_file), "--device", "cpu", "--snapshot_dir", str(tmp_path / "run")]
    monkeypatch.setattr(sys, "argv", ["train_cam.py", *words, "--tags", str(tags), *SHORT])
    with pytest.raises(SystemExit) as caught:
        runpy.run_path(str(ROOT / "pyscripts/train/train_cam.py"), run_name="__main__")
    error = capsys.readouterr().err
    assert caught.value.code == 1 and "Traceback" not in error
    assert "no line for '7' of" in error and "(1 of 8 images have none)" in error
    tags.write_text("".join(f"{number} red\n" for number in range(8)))
    with pytest.raises(SystemExit) as caught:
        runpy.run_path(str(ROOT / "pyscripts/train/train_cam.py"), run_name="__main__")
    assert caught.value.code == 0 and list_snapshots(tmp_path / "run")[-1][0] == 1


@pytest.mark.parametrize("more", [[], SEAM])
def test_without_a_background_every_class_has_a_map(cam_config_file, more):
    for background, count in (("0", 3), ("2", 3), ("none", 4)):
        task = build_task(load_config(cam_config_file, [*more, f"dataset.background={background}"])).eval()
        batch = batch_of([0, 1])
        assert task.cam_model.class_weight.out_channels == task.object_tag(batch).shape[1] == count
        assert all(torch.isfinite(value) for value in task(batch).values())
        assert len(task.pictures(batch)) == 2
