"""Two gloo processes with half of the images each do what one process with all of them does."""

import socket

import pytest
import torch
import torch.multiprocessing as multiprocessing
from torch import nn

from spml.config import load_config
from spml.engine import distributed, loop
from spml.engine.optimizer import build_optimizer
from spml.engine.run import build_task
from spml.errors import UserError
from spml.grouping.memory import _Alone
from spml.models import build_embedding_model, save_checkpoint

OVERRIDES = [
    "train.memory_bank_size=2",
    "losses.feature_affinity.concentration=6",
    "losses.feature_affinity.weight=0.3",
    "losses.feature_affinity.threshold=0",
    "losses.propagated_cross_entropy.weight=0.5",
    "losses.propagated_cross_entropy.threshold=0",
]
NO_RELATION = [f"losses.{name}=none" for name in ("semantic_annotation", "semantic_cooccurrence", "image_similarity")]
ANNOTATION = ["train.memory_bank_size=2", *NO_RELATION[1:]]


def batch_of(numbers):
    """Images by number, so that two halves are the whole; one image has no label, one is all void."""
    generator = torch.Generator().manual_seed(5)
    label = torch.randint(0, 6, (4, 32, 32), generator=generator)  # 4 and 5 are unlabelled
    label[1] = 5
    label[2, :20] = 255
    batch = {
        "image": torch.randn(4, 3, 32, 32, generator=generator),
        "semantic_label": label,
        "instance_label": torch.arange(32).div(11, rounding_mode="floor").expand(4, 32, 32).contiguous(),
        "semantic_tag": torch.tensor([[1, 1, 0, 0], [1, 0, 1, 0], [0, 0, 0, 0], [1, 1, 0, 1]], dtype=torch.bool),
    }
    return {name: value[numbers] for name, value in batch.items()}


def two_steps(config_file, numbers, overrides=OVERRIDES):
    """Return losses of two steps and the gradients of the second, which sees the bank of the first.

    The rate is 0: after an update, rounding alone could move a pixel to another cluster.
    """
    config = load_config(config_file, overrides)
    torch.manual_seed(0)
    task = build_task(config)
    for module in task.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0  # the one thing that is drawn by process
    optimizer = build_optimizer(task, 0.9)
    run = loop.replicate(task, torch.device("cpu"))
    losses = [loop.update(run, task.weights, optimizer, batch_of(numbers), 0.0, step) for step in range(2)]
    gradients = {name: p.grad.clone() for name, p in task.named_parameters() if p.grad is not None}
    buffers = {name: b.clone() for name, b in task.named_buffers()}
    return losses, gradients, buffers


def process(rank, port, config_file, folder):
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    found = {"everything": two_steps(config_file, [2 * rank, 2 * rank + 1])}
    found["frozen"] = two_steps(config_file, [2 * rank, 2 * rank + 1], frozen(folder))
    found["annotation"] = two_steps(config_file, [[0, 3], [1]][rank], ANNOTATION)  # the second has no labelled pixel
    torch.save(found, folder / f"{rank}.pth")
    with distributed.all_or_none(torch.device("cpu")):
        pass
    with pytest.raises(UserError if rank == 0 else SystemExit), distributed.all_or_none(torch.device("cpu")):
        if rank == 0:
            raise UserError("a mistake that the first process finds")
    distributed.stop()


def frozen(folder):
    """The baseline whose embedding comes from a file and gets no gradient."""
    return [*NO_RELATION, "train.classifier_gradient=false", f"network.pretrained={folder}/model-0.pth"]


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.fixture(scope="module")
def folder(tiny_config_file, tmp_path_factory):
    """What the two processes found."""
    folder = tmp_path_factory.mktemp("processes")
    save_checkpoint(folder / "model-0.pth", build_embedding_model(load_config(tiny_config_file)))
    multiprocessing.spawn(process, (free_port(), tiny_config_file, folder), nprocs=2)
    return folder


@pytest.mark.parametrize("case", ["everything", "frozen", "annotation"])
def test_two_processes_equal_one(tiny_config_file, folder, case):
    overrides = {"everything": OVERRIDES, "frozen": frozen(folder), "annotation": ANNOTATION}[case]
    numbers = [0, 3, 1] if case == "annotation" else [0, 1, 2, 3]
    losses, gradients, buffers = two_steps(tiny_config_file, numbers, overrides)
    assert {len(one) for one in losses} == {{"everything": 7, "frozen": 2, "annotation": 3}[case]}
    assert (case == "frozen") == all(name.startswith("classifier.") for name in gradients)
    for rank in range(2):
        their_losses, their_gradients, their_buffers = torch.load(folder / f"{rank}.pth", weights_only=True)[case]
        for ours, theirs in zip(losses, their_losses, strict=True):
            assert ours.keys() == theirs.keys()
            for name in ours:
                assert theirs[name] == pytest.approx(ours[name], rel=1e-5), name
        largest = max(float(g.abs().max()) for g in gradients.values())
        assert gradients.keys() == their_gradients.keys()
        for name, gradient in gradients.items():
            assert float((gradient - their_gradients[name]).abs().max()) < 1e-5 * max(largest, 1.0), name
        for name, buffer in buffers.items():
            torch.testing.assert_close(their_buffers[name], buffer, rtol=1e-4, atol=1e-5)


def test_segments_travel_once_a_step(tiny_config_file):
    """The bank keeps what was gathered for the losses."""

    class Counting(_Alone):
        gathers = 0

        def gather(self, rows, num_images):
            self.gathers += 1
            return super().gather(rows, num_images)

    task = build_task(load_config(tiny_config_file, OVERRIDES))
    counting = task.exchange = Counting()
    task(batch_of([0, 1, 2, 3]))
    assert counting.gathers == 1
    assert len(task.bank) == 1 and task.bank.steps[0][1] == 4
    assert not task.bank.steps[0][0].prototype.requires_grad


def test_synchronised_batch_norm_alone_is_batch_norm():
    """With the exchange of one process it must be torch's, in value, gradient and statistics."""
    store = torch.distributed.HashStore()
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        torch.manual_seed(0)
        ours, theirs = distributed.SyncBatchNorm(5, momentum=0.3), nn.BatchNorm2d(5, momentum=0.3)
        x = torch.randn(3, 5, 4, 4) * 2 + 1
        results = []
        for norm in (ours, theirs):
            nn.init.constant_(norm.weight, 1.5)
            z = x.clone().requires_grad_()
            y = norm(z)
            (y**3).sum().backward()
            results.append((y.detach(), z.grad, norm.weight.grad, norm.running_mean, norm.running_var))
    finally:
        distributed.stop()
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
