"""Every task of the table: its losses, its snapshots, resuming, and two processes that do what one does."""

import socket
from pathlib import Path

import pytest
import torch
import torch.multiprocessing as multiprocessing
from torch import nn

from spml.config import load_config
from spml.config.settings import keys_of
from spml.data.dataset import STAGE_1
from spml.engine import distributed, loop
from spml.engine.optimizer import build_optimizer
from spml.engine.run import build_task, train
from spml.models import build_embedding_model, save_checkpoint
from spml.tasks import TABLE, Task

TASKS = tuple(TABLE)
CPU = torch.device("cpu")


def config_of(name, config_file, pretrained, *overrides):
    """A config that the task can train; a new task may need a line here."""
    own = {
        "segmentation": ["losses=none", "losses.cross_entropy.weight=1"],
        "classifier": [f"network.pretrained={pretrained}"],
        "seam": ["seam.second_view_scale=0.5"],
        "ppc": ["ppc.second_view_scale=0.5"],
    }
    return load_config(config_file, [f"train.task={name}", *own.get(name, []), *overrides])


@pytest.fixture(scope="module")
def pretrained(tiny_config_file, tmp_path_factory):
    path = tmp_path_factory.mktemp("pretrained") / "model-0.pth"
    torch.manual_seed(1)
    save_checkpoint(path, build_embedding_model(load_config(tiny_config_file)))
    return path


def batch_of(numbers):
    """Images by number, so that two halves are the whole; one has no label, one is mostly void, one is padded."""
    generator = torch.Generator().manual_seed(5)
    label = torch.randint(0, 6, (4, 32, 32), generator=generator)  # 4 and 5 are unlabelled
    label[1] = 5
    label[2, :20] = 255
    inside = torch.ones(4, 32, 32, dtype=torch.bool)
    inside[3, :, 28:] = False
    batch = {
        "image": torch.randn(4, 3, 32, 32, generator=generator) * inside[:, None],
        "semantic_label": label.masked_fill(~inside, 255),
        "instance_label": torch.arange(32).div(11, rounding_mode="floor").expand(4, 32, 32).contiguous(),
        "inside": inside,
        "semantic_tag": torch.tensor([[1, 1, 0, 0], [1, 0, 1, 0], [1, 0, 0, 1], [1, 1, 0, 1]], dtype=torch.bool),
    }
    return {name: value[numbers] for name, value in batch.items()}


def assert_same(ours, theirs):
    if isinstance(ours, dict):
        assert ours.keys() == theirs.keys()
        for key in ours:
            assert_same(ours[key], theirs[key])
    elif isinstance(ours, list):
        assert len(ours) == len(theirs)
        for pair in zip(ours, theirs, strict=True):
            assert_same(*pair)
    else:
        assert torch.equal(ours, theirs) if isinstance(ours, torch.Tensor) else ours == theirs


@pytest.mark.parametrize("name", TASKS)
def test_what_a_task_says_of_itself(name, tiny_config_file, pretrained):
    task = TABLE[name]
    assert issubclass(task, Task) and task.name == name and len(task.help.splitlines()) == 1
    assert task.settings is None or all(key.help for key in keys_of(task.settings).values())
    built = build_task(config_of(name, tiny_config_file, pretrained))
    assert {id(part) for part in built.trained} <= {id(part) for part in built.parts.values()} and built.trained
    for part in built.parts:
        assert part.endswith("_model")


@pytest.mark.parametrize("name", TASKS)
def test_losses_are_finite_and_every_trained_weight_has_a_gradient(name, tiny_config_file, pretrained):
    """Several processes wait for the gradient of every weight that the optimizer holds."""
    task = build_task(config_of(name, tiny_config_file, pretrained))
    optimizer = build_optimizer(task, 0.9)
    task.train()
    losses = task(batch_of([0, 1, 2, 3]))
    assert [*losses] == [*task.weights]
    for value in losses.values():
        assert value.shape == () and value.dtype == torch.float32 and torch.isfinite(value)
    sum(losses.values()).backward()
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    for key, parameter in task.named_parameters():
        assert (id(parameter) in held) == parameter.requires_grad == (parameter.grad is not None), key


@pytest.mark.parametrize("name", TASKS)
def test_two_steps_equal_one_and_a_resumed_one(name, tiny_config_file, pretrained, tmp_path):
    steps = ["train.max_iteration=2", "train.warmup_iteration=0", "train.snapshot_step=1"]
    config = config_of(name, tiny_config_file, pretrained, *steps)
    whole = train(config, tmp_path, device="cpu")
    files = ["model-1.pth", "model-1.state.pth"]
    expected = [torch.load(tmp_path / file, weights_only=True) for file in files]
    task = build_task(config)
    assert {part for part, state in expected[0].items() if state} == {*task.parts}
    assert {"embedding_model", "prediction_model"} <= {*expected[0]}  # as in the release
    for file in files:
        (tmp_path / file).unlink()
    resumed = train(config, tmp_path, device="cpu", resume=True)
    assert resumed.history == whole.history[1:]
    for file, before in zip(files, expected, strict=True):
        assert_same(torch.load(tmp_path / file, weights_only=True), before)


def two_steps(name, config_file, pretrained, numbers):
    """Losses of two steps at rate 0, the gradients of the second, and batch statistics."""
    torch.manual_seed(0)
    task = build_task(config_of(name, config_file, pretrained, "train.memory_bank_size=2"))
    for module in task.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0  # the one thing that is drawn by process
    optimizer = build_optimizer(task, 0.9)
    run = loop.replicate(task, CPU)
    losses = [loop.update(run, task.weights, optimizer, batch_of(numbers), 0.0, step) for step in range(2)]
    gradients = {key: p.grad.clone() for key, p in task.named_parameters() if p.grad is not None}
    return losses, gradients, {key: b.clone() for key, b in task.named_buffers()}


def process(rank, port, config_file, pretrained, folder):
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    found = {name: two_steps(name, config_file, pretrained, [2 * rank, 2 * rank + 1]) for name in TASKS}
    torch.save(found, Path(folder) / f"{rank}.pth")
    distributed.stop()


@pytest.fixture(scope="module")
def processes(tiny_config_file, pretrained, tmp_path_factory):
    """What each of two processes found, for every task."""
    folder = tmp_path_factory.mktemp("processes")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    multiprocessing.spawn(process, (port, tiny_config_file, pretrained, folder), nprocs=2)
    return [torch.load(folder / f"{rank}.pth", weights_only=True) for rank in range(2)]


@pytest.mark.slow
@pytest.mark.parametrize("name", TASKS)
def test_two_processes_do_what_one_does(name, tiny_config_file, pretrained, processes):
    losses, gradients, buffers = two_steps(name, tiny_config_file, pretrained, [0, 1, 2, 3])
    largest = max(1.0, *(float(gradient.abs().max()) for gradient in gradients.values()))
    for found in processes:
        their_losses, their_gradients, their_buffers = found[name]
        for ours, theirs in zip(losses, their_losses, strict=True):
            assert theirs == pytest.approx(ours, rel=1e-4, abs=1e-5)
        assert gradients.keys() == their_gradients.keys()
        for key, gradient in gradients.items():
            assert float((gradient - their_gradients[key]).abs().max()) < 1e-4 * largest, key
        for key, buffer in buffers.items():
            torch.testing.assert_close(their_buffers[key], buffer, rtol=1e-3, atol=1e-4, msg=key)


def test_the_loader_reads_by_default_what_stage_1_needs():
    assert TABLE["spml"].needs == STAGE_1
