"""Training runs on tiny data: resuming, interruption, errors, every relation, both stages."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

from spml.cli.exits import INTERRUPTED
from spml.config import load_config
from spml.engine.run import build_task, train
from spml.errors import UserError
from spml.models.checkpoint import list_snapshots

ROOT = Path(__file__).parent.parent


def state(folder, step):
    model = torch.load(folder / f"model-{step}.pth", weights_only=True)
    rest = torch.load(folder / f"model-{step}.state.pth", weights_only=True)
    return model, rest


def assert_same(ours, theirs, path=""):
    assert type(ours) is type(theirs), path
    if isinstance(ours, dict):
        assert ours.keys() == theirs.keys(), path
        for key in ours:
            assert_same(ours[key], theirs[key], f"{path}.{key}")
    elif isinstance(ours, (list, tuple)):
        assert len(ours) == len(theirs), path
        for index, pair in enumerate(zip(ours, theirs, strict=True)):
            assert_same(*pair, f"{path}[{index}]")
    elif isinstance(ours, torch.Tensor):
        assert torch.equal(ours, theirs), path
    else:
        assert ours == theirs, path


def test_four_steps_equal_two_resumed_two(tiny_config_file, tmp_path):
    """Bit for bit: weights, batch-norm statistics, momentum, memory bank; with bank and dropout in play."""
    four = load_config(tiny_config_file, ["train.max_iteration=4", "train.memory_bank_size=2"])
    assert train(four, tmp_path / "four", device="cpu").finished
    resumed = load_config(
        tiny_config_file, ["train.max_iteration=4", "train.memory_bank_size=2", "train.snapshot_step=2"]
    )
    train(resumed, tmp_path / "two", device="cpu")
    for name in ("model-3.pth", "model-3.state.pth"):
        (tmp_path / "two" / name).unlink()
    assert train(resumed, tmp_path / "two", device="cpu", resume=True).finished
    ours, theirs = state(tmp_path / "two", 3), state(tmp_path / "four", 3)
    assert_same(ours, theirs)
    assert len(ours[1]["extra"]["memory"]["steps"]) == 2


def test_finished_run_is_left_alone(tiny_config_file, tmp_path, capsys):
    config = load_config(tiny_config_file, ["train.max_iteration=1", "train.warmup_iteration=0"])
    train(config, tmp_path, device="cpu")
    before = (tmp_path / "model-0.pth").stat().st_mtime_ns
    assert train(config, tmp_path, device="cpu", resume=True).finished
    assert (tmp_path / "model-0.pth").stat().st_mtime_ns == before
    with pytest.raises(UserError, match="holds snapshots already; add --resume"):
        train(config, tmp_path, device="cpu")
    with pytest.raises(UserError, match="config: expected what load_config returns"):
        train({}, tmp_path / "other", device="cpu")
    with pytest.raises(UserError, match="callbacks: expected a list of functions, got one function"):
        train(config, tmp_path / "other", callbacks=print, device="cpu")
    with pytest.raises(UserError, match="stop: expected a threading.Event, got bool"):
        train(config, tmp_path / "other", stop=True, device="cpu")
    with pytest.raises(UserError, match="samples: expected each to be a spml.Sample, got int at place 0"):
        train(config, tmp_path / "other", samples=[1], device="cpu")
    assert not (tmp_path / "other").exists()


RELATIONS = ("semantic_annotation", "semantic_cooccurrence", "image_similarity", "feature_affinity")


@pytest.mark.parametrize("relation", (*RELATIONS, "all", "none"))
def test_each_relation_alone_and_all(tiny_config_file, tmp_path, relation):
    chosen = {"all": RELATIONS, "none": ()}.get(relation, (relation,))
    losses = ["losses=none", "losses.cross_entropy.weight=1", *(f"losses.{name}.weight=0.5" for name in chosen)]
    config = load_config(tiny_config_file, [*losses, "train.max_iteration=2", "train.warmup_iteration=0"])
    assert {*build_task(config).weights} == {"cross_entropy", *chosen}
    run = train(config, tmp_path, device="cpu")
    assert run.finished and {*run.history[1]} == {"step", "total", "cross_entropy", *chosen}


def test_non_finite_loss_stops_with_step_and_terms(tiny_config_file, tmp_path):
    config = load_config(tiny_config_file, ["train.base_lr=1e30", "train.max_iteration=30", "train.warmup_iteration=0"])
    with pytest.raises(UserError, match=r"the loss is not finite at step \d+: total .*cross_entropy"):
        train(config, tmp_path, device="cpu")
    assert not list_snapshots(tmp_path)


def test_interruption_saves_and_says_how_to_go_on(tiny_config_file, tmp_path):
    """Ctrl-C in the middle of a run of the real script, with loader workers."""
    command = [sys.executable, "pyscripts/train/train.py", "--cfg_path", str(tiny_config_file)]
    command += ["--snapshot_dir", str(tmp_path), "--device", "cpu", "train.max_iteration=100000", "num_threads=1"]
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    watch = threading.Timer(90, process.kill)
    watch.start()
    deadline = time.monotonic() + 60
    while not (tmp_path / "config.yaml").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(2)
    os.killpg(process.pid, signal.SIGINT)  # a terminal sends it to the workers too
    out, err = process.communicate()
    watch.cancel()
    assert process.returncode == INTERRUPTED, err
    assert "saved; go on with --resume" in out
    assert "Traceback" not in err
    ((step, path),) = list_snapshots(tmp_path)
    assert path.with_suffix(".state.pth").is_file()
    assert torch.load(path.with_suffix(".state.pth"), weights_only=True)["step"] == step


STAGE_2 = "network.prediction_types=softmax_classifier"


def test_both_stages_and_the_config_beside_the_snapshot(tiny_config_file, tmp_path):
    config = load_config(tiny_config_file, ["train.max_iteration=2", "train.warmup_iteration=0"])
    train(config, tmp_path / "one", device="cpu")
    assert load_config(tmp_path / "one" / "config.yaml") == config
    overrides = ["train.max_iteration=2", "train.warmup_iteration=0", STAGE_2]
    second = load_config(tiny_config_file, [*overrides, f"network.pretrained={tmp_path / 'one'}"])  # the newest of it
    train(second, tmp_path / "two", device="cpu")
    before, after = state(tmp_path / "one", 1)[0], state(tmp_path / "two", 1)[0]
    assert_same(after["embedding_model"], before["embedding_model"])  # frozen, statistics included
    weight = "semantic_classifier.4.weight"
    assert not torch.equal(after["prediction_model"][weight], before["prediction_model"][weight])
    with pytest.raises(UserError, match="network.pretrained: stage 2 needs the snapshot of stage 1"):
        train(load_config(tiny_config_file, overrides), tmp_path / "three", device="cpu")


def test_frozen_stem_moves_its_statistics_only(tiny_config_file, tmp_path):
    config = load_config(tiny_config_file, ["train.max_iteration=2", "train.freeze_stem=true"])
    torch.manual_seed(config.train.seed)
    before = {k: v.clone() for k, v in build_task(config).embedding_model.state_dict().items()}
    train(config, tmp_path, device="cpu")
    after = state(tmp_path, 1)[0]["embedding_model"]
    stem = [name for name in before if name.startswith(("resnet_backbone.conv1", "resnet_backbone.res2"))]
    assert len(stem) > 10
    for name, value in before.items():
        if name in stem:
            moved = not torch.equal(value, after[name])
            assert moved == name.endswith(("running_mean", "running_var", "num_batches_tracked")), name


def test_training_lowers_the_loss(tiny_config_file, tmp_path):
    config = load_config(tiny_config_file, ["train.max_iteration=25", "train.warmup_iteration=0"])
    total = [record["total"] for record in train(config, tmp_path, device="cpu").history]
    assert len(total) == 25 and sum(total[-5:]) < 0.8 * sum(total[:5])


SHORT = ["train.max_iteration=1", "train.warmup_iteration=0"]


def test_other_settings_or_data_are_named_before_anything_is_written(tiny_config_file, tiny_data, tmp_path):
    train(load_config(tiny_config_file, [*SHORT, "train.snapshot_step=7"]), tmp_path, device="cpu")
    before = (tmp_path / "config.yaml").read_bytes()
    (tmp_path / "other.txt").write_text("".join((tiny_data / "train.txt").read_text().splitlines(True)[:-1]))
    for override, difference in (
        ("train.base_lr=0.5", "settings.train.base_lr 0.003, now 0.5"),
        ("train.max_iteration=2", "settings.train.max_iteration 1, now 2"),
        ("losses.image_similarity=none", "settings.losses.image_similarity .*, now null"),
        (f"dataset.train_data_list={tmp_path}/other.txt", "contents.samples has changed"),
    ):
        with pytest.raises(UserError, match=f"--resume: the snapshots of .* other settings or data .*{difference}"):
            train(load_config(tiny_config_file, [*SHORT, override]), tmp_path, device="cpu", resume=True)
        assert (tmp_path / "config.yaml").read_bytes() == before
    copied = tmp_path / "a copy of the data"
    shutil.copytree(tiny_data, copied)
    unimportant = ["train.log_step=3", "num_threads=1", "test.image_size=5", f"dataset.data_dir={copied}"]
    assert train(load_config(tiny_config_file, [*SHORT, *unimportant]), tmp_path, device="cpu", resume=True).finished


def test_a_folder_of_an_older_version_has_no_record(tiny_config_file, tmp_path):
    """Then the files themselves must fit."""
    train(load_config(tiny_config_file, SHORT), tmp_path, device="cpu")
    for overrides, message in (
        (["train.freeze_stem=true"], "--resume: .*model-0.state.pth is not of this config and task"),
        ([STAGE_2, f"network.pretrained={tmp_path}"], "--resume: .*model-0.state.pth is not of this config and task"),
        (["network.embedding_dim=16"], "does not fit EmbeddingModel.*expected .16, .* got .8, "),
    ):
        (tmp_path / "record.json").unlink()
        with pytest.raises(UserError, match=message):
            train(load_config(tiny_config_file, [*SHORT, *overrides]), tmp_path, device="cpu", resume=True)
    (tmp_path / "record.json").unlink()
    path = tmp_path / "model-0.state.pth"
    torch.save({**torch.load(path, weights_only=True), "config": {"of": "an older version"}}, path)
    two = ["train.max_iteration=2", "train.warmup_iteration=0"]
    assert train(load_config(tiny_config_file, two), tmp_path, device="cpu", resume=True).history[0]["step"] == 1


def test_a_damaged_snapshot_is_one_line(tiny_config_file, tmp_path):
    config = load_config(tiny_config_file, SHORT)
    train(config, tmp_path, device="cpu")
    state_path = tmp_path / "model-0.state.pth"
    content = state_path.read_bytes()
    for damaged in (content[: len(content) // 2], b"", b"no pickle"):
        state_path.write_bytes(damaged)
        with pytest.raises(UserError, match=r"--resume: .*model-0.state.pth cannot be read"):
            train(config, tmp_path, device="cpu", resume=True)
    torch.save({"momentum": 1}, state_path)  # as an optimizer of another program
    with pytest.raises(UserError, match="is not of this config and task"):
        train(config, tmp_path, device="cpu", resume=True)
    (tmp_path / "model-0.pth").write_bytes(b"PK")
    with pytest.raises(UserError, match=r"model-0.pth: expected a PyTorch file"):
        train(config, tmp_path, device="cpu", resume=True)


def test_a_diverged_network_is_drawn_and_then_named(tiny_config_file, tmp_path):
    """TensorBoard's picture of infinite embeddings must not hide the message about the loss."""
    overrides = ["train.base_lr=1e30", "train.max_iteration=30", "train.warmup_iteration=0", "train.tensorboard_step=1"]
    with pytest.raises(UserError, match=r"the loss is not finite at step \d+"):
        train(load_config(tiny_config_file, overrides), tmp_path, device="cpu")


def test_a_batch_too_small_for_batch_norm(tiny_config_file, tmp_path):
    overrides = ["network.backbone_types=panoptic_pspnet_50", "train.batch_size=1"]
    with pytest.raises(UserError, match="train.batch_size: expected at least 2 .*pspnet_50"):
        train(load_config(tiny_config_file, overrides), tmp_path, device="cpu")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("dataset.train_data_list=missing.txt", "missing.txt"),
        ("network.pretrained=missing.pth", "missing.pth"),
    ],
)
def test_missing_files_are_one_line(tiny_config_file, tmp_path, override, message):
    with pytest.raises(UserError, match=message):
        train(load_config(tiny_config_file, [override]), tmp_path, device="cpu")


def test_state_file_is_plain_data(tiny_config_file, tmp_path):
    config = load_config(tiny_config_file, ["train.max_iteration=1", "train.warmup_iteration=0"])
    train(config, tmp_path, device="cpu")
    _, rest = state(tmp_path, 0)
    assert rest.keys() == {"step", "optimizer", "extra"} and rest["step"] == 0
