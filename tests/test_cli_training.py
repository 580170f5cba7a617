"""Which task the training commands train, and how they end."""

import threading
from types import SimpleNamespace

import pytest

from spml.cli import training
from spml.cli.main import command
from spml.errors import UserError


@pytest.fixture
def trained(monkeypatch):
    """What `spml.train` is called with, in place of a training."""
    calls = []

    def train(config, folder, **options):
        calls.append(SimpleNamespace(config=config, folder=folder, **options))
        return SimpleNamespace(finished=not options["stop"].is_set())

    monkeypatch.setattr(training, "train", train)
    monkeypatch.setattr(training, "print_survey", lambda *args: None)
    return calls


def words(tiny_config_file, *more):
    return ["--config", str(tiny_config_file), "--snapshot_dir", "s", "--device", "cpu", *more]


def test_train_trains_what_the_config_names(trained, tiny_config_file):
    for own, task in (
        ([], "spml"),
        (["network.prediction_types=seam"], "seam"),
        (["network.prediction_types=cam"], "cam"),
        (["network.prediction_types=softmax_classifier"], "classifier"),
        (["train.task=segmentation", "losses=none", "losses.cross_entropy.weight=1"], "segmentation"),
    ):
        assert command("train", words(tiny_config_file, *own)) == 0
        assert trained[-1].config.train.task == task
    assert isinstance(trained[-1].stop, threading.Event) and not trained[-1].resume


def test_the_classifier_and_cams_have_their_tasks(trained, tiny_config_file):
    assert command("classifier", words(tiny_config_file, "network.pretrained=x", "--resume")) == 0
    assert trained[-1].config.train.task == "classifier" and trained[-1].resume
    with pytest.raises(UserError, match="train.task: expected classifier for this command, got segmentation"):
        command("classifier", words(tiny_config_file, "train.task=segmentation"))
    with pytest.raises(UserError, match="train.task: expected cam or seam for this command, got spml"):
        command("train", words(tiny_config_file), tasks=("cam", "seam"))
    assert command("train", words(tiny_config_file, "train.task=seam"), tasks=("cam", "seam")) == 0
    with pytest.raises(UserError, match="train.task: expected cam or seam or ppc, got spml"):
        command("cam", words(tiny_config_file, "--save_dir", "out"))


def test_an_interrupted_training_is_status_130(trained, tiny_config_file, monkeypatch):
    stopped = threading.Event()
    stopped.set()

    class Guard:
        def __enter__(self):
            return stopped

        def __exit__(self, *error):
            pass

    monkeypatch.setattr(training, "interruption", Guard)
    assert command("train", words(tiny_config_file)) == 130


CAM = ("train.task=cam", "losses=none", "network.prediction_types=cam")


def test_lists_and_tags_of_the_command_line(trained, tiny_config_file):
    command(
        "train", words(tiny_config_file, "--data_list", "mine.txt", "--tags", "tags.txt", "--data_dir", "here", *CAM)
    )
    data = trained[-1].config.dataset
    assert (data.train_data_list, data.tags, data.data_dir) == ("mine.txt", "tags.txt", "here")
    with pytest.raises(UserError, match="--tags: the task spml does not learn from tags"):
        command("train", words(tiny_config_file, "--tags", "tags.txt"))
