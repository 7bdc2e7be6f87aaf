import math
from typing import Any

import pytest
import torch
from torch.nn import Parameter

from models.method import ParameterGroup
from tests.models.golden_numbers import golden
from tools.runs.options import OptimizerOptions
from tools.training.optimizer import (
    build_optimizer,
    clip_each,
    learning_rate_factor,
    set_weight_decay,
)


def factors(options: OptimizerOptions, num_steps: int, steps_per_epoch: int = 10) -> list[float]:
    return [learning_rate_factor(options, i, steps_per_epoch, num_steps) for i in range(num_steps)]


def test_warm_up_is_linear_and_ends_at_the_full_rate() -> None:
    options = OptimizerOptions(learning_rate=0.1, warmup_epochs=0.5)
    assert factors(options, 8) == [0.2, 0.4, 0.6, 0.8, 1.0, 1.0, 1.0, 1.0]


def test_cosine_falls_from_one_to_almost_zero_after_the_warm_up() -> None:
    options = OptimizerOptions(learning_rate=0.1, warmup_epochs=1, schedule="cosine")
    after = factors(options, 110)[10:]
    expected = [(1 + math.cos(math.pi * k / 100)) / 2 for k in range(100)]
    assert after == pytest.approx(expected)


def test_steps_multiply_at_their_epochs() -> None:
    options = OptimizerOptions(
        learning_rate=0.1, schedule="steps", milestones_epochs=(1.0, 2.0), gamma=0.5
    )
    assert factors(options, 30) == [1.0] * 10 + [0.5] * 10 + [0.25] * 10


@pytest.mark.parametrize(("scales", "expected"), [(True, 0.4), (False, 0.1)])
def test_the_rate_is_multiplied_by_the_ranks_where_asked(scales: bool, expected: float) -> None:
    options = OptimizerOptions(learning_rate=0.1, scale_by_ranks=scales)
    optimizer, _ = build_optimizer(
        options,
        [ParameterGroup([Parameter(torch.ones(1))])],
        num_ranks=4,
        steps_per_epoch=10,
        num_steps=100,
    )
    assert optimizer.param_groups[0]["lr"] == pytest.approx(expected)


@pytest.mark.parametrize(("name", "kind"), [("sgd", torch.optim.SGD), ("adamw", torch.optim.AdamW)])
def test_only_what_can_be_trained_is_given_to_the_optimizer(name: str, kind: type) -> None:
    options = OptimizerOptions(learning_rate=0.1, name=name)  # type: ignore[arg-type]
    trainable, fixed = Parameter(torch.ones(2)), Parameter(torch.ones(2), requires_grad=False)
    optimizer, _ = build_optimizer(
        options,
        [ParameterGroup([trainable, fixed])],
        num_ranks=1,
        steps_per_epoch=10,
        num_steps=100,
    )
    assert isinstance(optimizer, kind)
    assert optimizer.param_groups[0]["params"] == [trainable]
    assert optimizer.param_groups[0]["weight_decay"] == 1e-5


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"learning_rate": 0.0}, "learning_rate = 0.0, must be more than 0"),
        ({"momentum": 1.0}, "momentum = 1.0, must be at least 0 and less than 1"),
        ({"weight_decay": -1.0}, "weight_decay = -1.0, must be at least 0"),
        ({"schedule": "steps"}, 'schedule = "steps" needs milestones'),
        ({"milestones_epochs": (5.0,)}, "no other takes them"),
        (
            {"milestones_epochs": (5.0, 3.0), "schedule": "steps"},
            r"milestones_epochs = \[5.0, 3.0\], must be increasing",
        ),
        ({"final_weight_decay": -0.1}, "final_weight_decay = -0.1, must be at least 0"),
        ({"norm_and_bias_scale": 0.1}, "does nothing without exclude_norm_and_bias"),
        ({"warmup_to": "last", "warmup_steps": 3}, "warmup_to = 'last' does nothing without"),
    ],
)
def test_refused_options(keys: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        OptimizerOptions(**{"learning_rate": 0.1, **keys})  # type: ignore[arg-type]


def test_the_warm_up_starts_where_asked_and_cosine_ends_where_asked() -> None:
    options = OptimizerOptions(
        learning_rate=1.0, warmup_steps=4, warmup_start=0.2, schedule="cosine", final_share=0.1
    )
    got = [learning_rate_factor(options, step, 10, 24) for step in (0, 1, 2, 3, 4, 14, 24)]
    assert got == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 0.55, 0.1])


def test_by_epoch_the_rate_changes_with_the_epoch_only() -> None:
    options = OptimizerOptions(learning_rate=1.0, schedule="cosine", schedule_by="epoch")
    got = [learning_rate_factor(options, step, 5, 20) for step in range(20)]
    assert got == [got[5 * (step // 5)] for step in range(20)]
    assert got[::5] == pytest.approx([0.5 * (1 + math.cos(math.pi * e / 4)) for e in range(4)])


def test_groups_keep_norm_and_bias_apart_and_a_constant_rate_constant() -> None:
    layer, predictor = torch.nn.Linear(2, 3), torch.nn.Linear(3, 2, bias=False)
    groups = [
        ParameterGroup(list(layer.parameters())),
        ParameterGroup(list(predictor.parameters()), constant_rate=True, rate_scale=10.0),
    ]
    options = OptimizerOptions(
        learning_rate=0.1,
        name="lars",
        weight_decay=0.01,
        exclude_norm_and_bias=True,
        schedule="cosine",
    )
    optimizer, schedule = build_optimizer(
        options, groups, num_ranks=1, steps_per_epoch=10, num_steps=20
    )
    first, bias, second = optimizer.param_groups
    assert (first["weight_decay"], bias["weight_decay"], bias["excluded"]) == (0.01, 0.0, True)
    assert [p.ndim for p in bias["params"]] == [1]
    for _ in range(10):
        optimizer.step()
        schedule.step()
    assert [g["lr"] for g in (first, bias, second)] == pytest.approx([0.05, 0.05, 1.0])


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"trust": 0.02}, 'trust = 0.02 does nothing without name = "lars"'),
        ({"final_share": 0.1}, 'final_share = 0.1 does nothing without schedule = "cosine"'),
        ({"warmup_start": 0.1}, "warmup_start = 0.1 does nothing without warmup_epochs"),
        ({"warmup_epochs": 1.0, "warmup_steps": 3}, "the warm-up has one length"),
    ],
)
def test_what_would_do_nothing_is_refused(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        OptimizerOptions(learning_rate=0.1, **keys)


def test_dinos_warm_up_and_cosine_are_the_authors() -> None:
    given, expected = golden("dino", "cosine_scheduler")
    steps = given["niter_per_ep"]
    options = OptimizerOptions(
        learning_rate=1.0,
        warmup_epochs=given["warmup_epochs"],
        warmup_start=given["start_warmup_value"],
        warmup_to="last",
        schedule="cosine",
        final_share=given["final"] / given["base"],
    )
    got = factors(options, given["epochs"] * steps, steps)
    assert got == pytest.approx(expected["schedule"], abs=1e-12)


def test_weight_decay_follows_half_a_cosine_but_for_norms_and_biases() -> None:
    """DINO: cosine_scheduler without a warm-up, for the groups that are regularised."""
    options = OptimizerOptions(
        learning_rate=0.1,
        name="adamw",
        weight_decay=0.04,
        final_weight_decay=0.4,
        exclude_norm_and_bias=True,
    )
    layer = torch.nn.Linear(3, 2)
    run = {"num_ranks": 1, "steps_per_epoch": 5, "num_steps": 20}
    optimizer, _ = build_optimizer(options, [ParameterGroup(list(layer.parameters()))], **run)
    for step in range(20):
        set_weight_decay(optimizer, options, step, 20)
        wanted = 0.4 + 0.5 * (0.04 - 0.4) * (1 + math.cos(math.pi * step / 20))
        found = [group["weight_decay"] for group in optimizer.param_groups]
        assert found == pytest.approx([wanted, 0.0])
    constant = OptimizerOptions(learning_rate=0.1, weight_decay=0.04)
    set_weight_decay(optimizer, constant, 3, 20)
    assert optimizer.param_groups[0]["weight_decay"] == pytest.approx(wanted)  # left as it was


def test_norms_and_biases_have_a_rate_of_their_own() -> None:
    """Barlow Twins: 0.2 for weights, 0.0048 for biases and norms, one schedule."""
    options = OptimizerOptions(
        learning_rate=0.2,
        name="lars",
        exclude_norm_and_bias=True,
        norm_and_bias_scale=0.024,
        warmup_steps=4,
    )
    linear = torch.nn.Linear(3, 2)
    run = {"num_ranks": 1, "steps_per_epoch": 5, "num_steps": 20}
    optimizer, schedule = build_optimizer(
        options, [ParameterGroup(list(linear.parameters()))], **run
    )
    for step in range(5):
        factor = min(1.0, (step + 1) / 4)
        rates = [group["lr"] for group in optimizer.param_groups]
        assert rates == pytest.approx([0.2 * factor, 0.0048 * factor])
        optimizer.step()
        schedule.step()
    before, biases = linear.weight.clone(), linear.bias.clone()
    linear.weight.grad, linear.bias.grad = torch.ones(2, 3), torch.ones(2)
    optimizer.step()
    ratio = 0.001 * before.norm() / (1 + 1e-5 * before).norm()
    torch.testing.assert_close(linear.weight, before - 0.2 * ratio * (1 + 1e-5 * before))
    torch.testing.assert_close(linear.bias, biases - 0.0048)


def test_each_gradient_is_clipped_by_itself() -> None:
    """As DINO's clip_gradients: scaled by norm / (|g| + 1e-6), never up."""
    torch.manual_seed(0)
    parameters = [Parameter(torch.zeros(size)) for size in ((4, 3), (5,), (2,))]
    for parameter, length in zip(parameters, (10.0, 2.0, 3.5), strict=True):
        parameter.grad = torch.randn_like(parameter)
        parameter.grad *= length / parameter.grad.norm()
    parameters.append(Parameter(torch.zeros(1)))  # without a gradient
    before = [p.grad.clone() for p in parameters[:3] if p.grad is not None]
    clip_each(parameters, 3.0)
    for parameter, gradient in zip(parameters, before, strict=False):
        scale = min(1.0, 3.0 / (float(gradient.norm()) + 1e-6))
        assert parameter.grad is not None
        torch.testing.assert_close(parameter.grad, gradient * scale)
    clip_each([], 3.0)
