"""BYOL equals its authors' numbers: loss and gradients, target update, schedule."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from lightly.loss import NegativeCosineSimilarity
from torch import nn

from gdt import Batch, named_plan
from models.methods.byol import regression_loss
from models.parts import MomentumCopy, MomentumSchedule
from tests.models.golden_numbers import close, golden, tensor

PLAN = named_plan("simclr")


def test_loss_and_gradients_equal_the_authors() -> None:
    given, expected = golden("byol", "loss")
    names = "prediction_view1", "prediction_view2"
    one, two = (tensor(given[name]).requires_grad_() for name in names)
    targets = [tensor(given[f"target_projection_view{n}"]).requires_grad_() for n in (1, 2)]
    loss = (regression_loss(one, targets[1]) + regression_loss(two, targets[0])).mean()
    close(loss, expected["loss"])
    loss.backward()
    for name, prediction in zip(names, (one, two), strict=True):
        assert prediction.grad is not None
        close(prediction.grad, expected[f"grad_{name}"])
    assert all(target.grad is None for target in targets)
    cosine = NegativeCosineSimilarity()
    lightly = 0.5 * (cosine(one, targets[1]) + cosine(two, targets[0]))
    assert loss.item() == pytest.approx(4 + 4 * lightly.item(), abs=1e-9)


def test_the_momentum_rises_as_the_authors() -> None:
    given, expected = golden("byol", "schedules")
    schedule = MomentumSchedule(given["base_ema"], rises=True, num_steps=given["max_steps"])
    momenta = [schedule.at(step) for step in given["global_step"]]
    assert momenta == pytest.approx(expected["tau"], abs=1e-9)


def test_the_target_moves_as_the_authors() -> None:
    given, expected = golden("byol", "target_update")
    online = nn.Linear(6, 1, bias=False).double()
    schedule = MomentumSchedule(given["base_ema"], rises=True, num_steps=given["max_steps"])
    with torch.no_grad():
        online.weight.copy_(tensor([given["target0"]]))
    target = MomentumCopy(online, schedule)
    for weights, step in zip(given["online_after_update"], expected["steps"], strict=True):
        with torch.no_grad():
            online.weight.copy_(tensor([weights]))
        target.follow(online, step["step"])
        close(target.network.weight[0], step["target"])


def test_the_method_is_its_loss_over_both_views(
    make_batch: Callable[..., Batch], build_small: Callable[..., Any]
) -> None:
    torch.manual_seed(0)
    method = build_small("byol", PLAN).eval()
    batch = make_batch(PLAN, [0, 1, 2])
    view = batch.view("image")
    draw = view.codes[:, PLAN.names.index("augmentation")]
    predicted, targets = [], []
    for number in (0, 1):
        values = view.values[draw == number]
        predicted.append(method.predictors["image"](method.towers.projection("image", values)))
        targets.append(method.target.network.projection("image", values))
    expected = sum(regression_loss(predicted[n], targets[1 - n]).mean() for n in (0, 1))
    losses = method(batch)
    torch.testing.assert_close(losses.total, expected)
    torch.testing.assert_close(sum(losses.parts.values()), losses.total)


def test_a_step_trains_the_online_network_and_moves_the_target(
    make_batch: Callable[..., Batch], build_small: Callable[..., Any]
) -> None:
    torch.manual_seed(0)
    method = build_small("byol", PLAN)
    optimizer = torch.optim.SGD(method.parameters(), lr=0.1)
    before = [p.clone() for p in method.target.network.parameters()]
    method(make_batch(PLAN, [0, 1, 2, 3])).total.backward()
    trained = [*method.towers.parameters(), *method.predictors.parameters()]
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in trained)
    optimizer.step()
    assert all(map(torch.equal, before, method.target.network.parameters()))
    method.after_step(0)
    moved = zip(before, method.towers.parameters(), method.target.network.parameters(), strict=True)
    for old, online, new in moved:
        torch.testing.assert_close(new, 0.9 * old + 0.1 * online)
        assert new.grad is None
