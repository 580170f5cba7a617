"""`spml.train` as a program calls it: any thread, a stop event, own samples, what a killed run leaves, torchrun."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from spml.cli.interruption import interruption
from spml.config import load_config
from spml.data.lists import read_list
from spml.data.samples import Sample, read_image, read_label
from spml.engine.run import Run, build_task, train
from spml.engine.validation import Validation
from spml.errors import UserError
from spml.models.checkpoint import load_parts

ROOT = Path(__file__).resolve().parents[1]
SHORT = ["train.max_iteration=2", "train.warmup_iteration=0"]


def weights(folder, step):
    return torch.load(folder / f"model-{step}.pth", weights_only=True)["embedding_model"]


def equal(ours, theirs):
    return ours.keys() == theirs.keys() and all(torch.equal(value, theirs[key]) for key, value in ours.items())


def test_a_run_in_a_thread_that_is_stopped_goes_on_as_if_it_had_not_been(tiny_config_file, tmp_path):
    config = load_config(tiny_config_file, ["train.max_iteration=6", "num_threads=1"])
    whole = train(config, tmp_path / "whole", device="cpu")
    stop, runs = threading.Event(), []

    def stop_after_two(step, losses, task):
        if step == 1:
            stop.set()

    def work():
        runs.append(train(config, tmp_path / "parts", callbacks=[stop_after_two], stop=stop, device="cpu"))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(120)
    (first,) = runs
    assert not first.finished and first.snapshot == tmp_path / "parts" / "model-1.pth"
    stop.clear()
    second = train(config, tmp_path / "parts", stop=stop, device="cpu", resume=True)
    assert second.finished and first.history + second.history == whole.history
    assert equal(weights(tmp_path / "parts", 5), weights(tmp_path / "whole", 5))


def test_a_stop_at_the_last_step_is_a_finished_run(tiny_config_file, tmp_path):
    stop = threading.Event()
    stop.set()
    run = train(load_config(tiny_config_file, [*SHORT, "train.max_iteration=1"]), tmp_path, stop=stop, device="cpu")
    assert run.finished and run.snapshot is not None


def test_samples_of_arrays_train_as_the_files_of_a_list(tiny_config_file, tmp_path):
    config = load_config(tiny_config_file, SHORT)
    listed = read_list(config.dataset.train_data_list, config.dataset.data_dir)
    arrays = [Sample(read_image(one), read_label(one.label), read_label(one.regions), name=one.name) for one in listed]
    paths = [Sample(str(one.image), str(one.label), str(one.regions)) for one in listed]
    from_list = train(config, tmp_path / "list", device="cpu")
    config.dataset.train_data_list = "gone.txt"
    for name, samples in (("arrays", arrays), ("paths", paths)):
        run = train(config, tmp_path / name, samples, device="cpu")
        assert run.history == from_list.history
        assert equal(weights(run.folder, 1), weights(from_list.folder, 1))
    with pytest.raises(UserError, match="contents.samples"):
        train(config, tmp_path / "arrays", arrays[:-1], device="cpu", resume=True)


def test_tags_of_samples_replace_labels(tiny_config_file, tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (40, 48, 3)).astype(np.uint8)
    label = np.full((40, 48), 2, np.uint8)
    samples = [Sample(image, tags=["red", 3]), Sample(image, label), Sample(image, label, tags=[])]
    seen = {}

    def note(name, batch, losses):
        seen.update(zip(batch["name"], batch["semantic_tag"].tolist(), strict=True))
        return losses

    from spml.tasks.cam import CamTask

    with pytest.MonkeyPatch.context() as patch:
        forward = CamTask.losses
        patch.setattr(CamTask, "losses", lambda self, batch: note(self.name, batch, forward(self, batch)))
        config = load_config(tiny_config_file, [*SHORT, "train.task=cam", "train.batch_size=3"])
        train(config, tmp_path, samples, device="cpu")
    assert [value for _, value in sorted(seen.items())] == [
        [False, True, False, True],
        [False, False, True, False],
        [False, False, False, False],
    ]


@pytest.mark.parametrize(
    ("samples", "task", "message"),
    [
        ([], "spml", "samples: expected at least one, got none"),
        ([Sample(np.zeros((8, 8, 3), np.uint8))], "spml", "no label: the task learns from it"),
        ([Sample(np.zeros((8, 8, 3), np.uint8))], "cam", "no tags and no label: the task learns from it"),
        ([Sample(np.zeros((8, 8, 3)), np.zeros((8, 8), int))], "spml", r"expected \(H, W, 3\) uint8"),
        ([Sample(np.zeros((8, 8, 3), np.uint8), np.zeros((8, 9), int))], "spml", "label is 9 x 8, but image is 8 x 8"),
        ([Sample("gone.png", "gone.png")], "spml", "no file gone.png"),
        ([Sample(np.zeros((8, 8, 3), np.uint8), tags=["violet"])], "cam", "expected a class, .* got 'violet'"),
    ],
)
def test_samples_that_cannot_be_used_are_one_line(tiny_config_file, tmp_path, samples, task, message):
    with pytest.raises(UserError, match=message) as caught:
        train(load_config(tiny_config_file, [*SHORT, f"train.task={task}"]), tmp_path, samples, device="cpu")
    assert "\n" not in str(caught.value) and not (tmp_path / "config.yaml").exists()


def test_temporary_files_of_dead_processes_go(tiny_config_file, tmp_path):
    child = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    dead, living = int(child.stdout), os.getppid()
    names = [f".model-3.pth.{dead}.tmp", f".model-3.state.pth.{dead}.tmp", f".model-3.state.pth.{dead}"]
    older = f".model-4.pth.{os.getpid()}.tmp"  # of a killed process that had our number
    for name in [*names, f".model-3.pth.{living}.tmp", ".own.file", ".notes.tmp", older]:
        (tmp_path / name).touch()
    os.utime(tmp_path / older, (1e9, 1e9))
    train(load_config(tiny_config_file, [*SHORT, "train.max_iteration=1"]), tmp_path, device="cpu")
    hidden = {path.name for path in tmp_path.iterdir() if path.name.startswith(".")}
    assert hidden == {f".model-3.pth.{living}.tmp", ".own.file", ".notes.tmp"}


def test_a_folder_that_cannot_be_written(tiny_config_file, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot write .*file/run"):
        train(load_config(tiny_config_file, SHORT), tmp_path / "file" / "run", device="cpu")
    with pytest.raises(UserError, match="expected a snapshot, found none"):
        Run(tmp_path).model()


def test_interruption_sets_the_event_and_gives_the_signals_back():
    import signal

    before = signal.getsignal(signal.SIGTERM)
    with interruption() as stop:
        assert not stop.is_set()
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.wait(5)
        os.kill(os.getpid(), signal.SIGTERM)  # a queue sends it to processes that are about to save
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
            stop_seen = stop.wait(5)
            raise AssertionError(stop_seen)
    assert signal.getsignal(signal.SIGTERM) is before


def test_the_model_of_a_run_predicts(tiny_config_file, tmp_path):
    run = train(load_config(tiny_config_file, SHORT), tmp_path, device="cpu")
    image = np.random.default_rng(0).integers(0, 256, (40, 48, 3)).astype(np.uint8)
    prediction = run.model("cpu").predict(image)
    assert prediction.label.shape == (40, 48) and prediction.label.max() < 4


@pytest.mark.slow
def test_two_processes_under_torchrun_train_as_one(tiny_config_file, tmp_path):
    """The real script, on a task without dropout: half of each batch a process, one set of files."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone"]
    for folder, start, batch in (("two", launch, 1), ("one", [sys.executable], 2)):
        words = ["--cfg_path", str(tiny_config_file), "--device", "cpu", "--snapshot_dir", str(tmp_path / folder)]
        words += [*SHORT, "train.task=cam", "num_threads=0", f"train.batch_size={batch}"]
        output = run([*start, "pyscripts/train/train.py", *words])
        assert output.count("trained 2 steps") == 1
    one, two = (torch.load(tmp_path / name / "model-1.pth", weights_only=True)["cam_model"] for name in ("one", "two"))
    for key, value in one.items():
        torch.testing.assert_close(two[key], value, rtol=1e-3, atol=1e-4, msg=key)
    assert (tmp_path / "one" / "record.json").read_bytes() == (tmp_path / "two" / "record.json").read_bytes()


@pytest.mark.slow
def test_processes_share_the_validation(tiny_config_file, tmp_path):
    words = ["--cfg_path", str(tiny_config_file), "--device", "cpu", "--snapshot_dir", str(tmp_path), "num_threads=0"]
    words += [*SHORT, "train.validation_step=2", "test.scales=1"]
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone"]
    run([*launch, "pyscripts/train/train.py", *words])
    config = load_config(tmp_path / "config.yaml")
    task = build_task(config)
    load_parts(tmp_path / "model-1.pth", task.parts)
    expected = Validation(config, task)(1, {}, task)["validation_mean_iou"]
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(tmp_path / "tensorboard"))
    found.Reload()
    (event,) = found.Scalars("validation_mean_iou")
    assert event.step == 1 and event.value == pytest.approx(expected, abs=1e-6)


def run(words):
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout
