"""Learning rates and the optimizer, step by step."""

import pytest
import torch
from parity import numbers
from torch import nn

from spml.engine.optimizer import StepMomentumSGD, build_optimizer
from spml.engine.run import build_task
from spml.engine.schedule import poly_lr, step_lr


def test_poly_matches_the_release():
    released = numbers("schedule")["lr.poly"].numpy()
    ours = [poly_lr(3e-3, step, 30000, warmup=100) for step in (0, 1, 50, 99, 100, 101, 15000, 29999)]
    assert ours == pytest.approx(released, rel=1e-9)


def test_step_matches_the_release():
    released = numbers("schedule")["lr.step"].numpy()
    assert [step_lr(1e-3, step, (10, 20), warmup=5) for step in range(25)] == pytest.approx(released, rel=1e-9)


def test_warm_up_is_capped_by_the_policy():
    assert poly_lr(1.0, 9, 10, warmup=10) == pytest.approx(0.1**0.9)
    assert poly_lr(1.0, 5, 10, warmup=10) == pytest.approx(min(0.5**0.9, 0.55))


def test_momentum_accumulates_steps():
    """v = 0.9 v + lr (g + d w), w -= v, by hand, with a rate that moves."""
    weight = nn.Parameter(torch.tensor([1.0]))
    optimizer = StepMomentumSGD([{"params": [weight], "multiplier": 2, "weight_decay": 0.1}], momentum=0.9)
    w, v = 1.0, 0.0
    for rate, gradient in ((0.1, 3.0), (0.01, -1.0), (0.2, 0.5)):
        weight.grad = torch.tensor([gradient])
        optimizer.set_rate(rate)
        optimizer.step()
        v = 0.9 * v + 2 * rate * (gradient + 0.1 * w)
        w -= v
        assert weight.item() == pytest.approx(w, rel=1e-6)


def test_groups_of_the_release(tiny_config):
    tiny_config.train.freeze_stem = True
    task = build_task(tiny_config)
    optimizer = build_optimizer(task, 0.9)
    place = {id(p): (g["multiplier"], g["weight_decay"]) for g in optimizer.param_groups for p in g["params"]}
    for model in task.parts.values():
        for name, parameter in model.named_parameters():
            if name.startswith(("resnet_backbone.conv1", "resnet_backbone.res2")):
                assert id(parameter) not in place and not parameter.requires_grad
                continue
            head = 1 if name.startswith("resnet_backbone") else 10
            expected = (2 * head, 0.0) if name.endswith("bias") else (head, 5e-4)
            assert place[id(parameter)] == expected, name
    tiny_config.train.freeze_stem = False
    build_optimizer(task, 0.9)
    assert all(parameter.requires_grad for parameter in task.parameters())
