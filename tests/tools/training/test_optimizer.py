import math

import pytest
import torch
from torch.nn import Parameter

from tools.runs.options import OptimizerOptions
from tools.training.optimizer import build_optimizer, learning_rate_factor


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
        options, [Parameter(torch.ones(1))], num_ranks=4, steps_per_epoch=10, num_steps=100
    )
    assert optimizer.param_groups[0]["lr"] == pytest.approx(expected)


@pytest.mark.parametrize(("name", "kind"), [("sgd", torch.optim.SGD), ("adamw", torch.optim.AdamW)])
def test_only_what_can_be_trained_is_given_to_the_optimizer(name: str, kind: type) -> None:
    options = OptimizerOptions(learning_rate=0.1, name=name)  # type: ignore[arg-type]
    trainable, fixed = Parameter(torch.ones(2)), Parameter(torch.ones(2), requires_grad=False)
    optimizer, _ = build_optimizer(
        options, [trainable, fixed], num_ranks=1, steps_per_epoch=10, num_steps=100
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
    ],
)
def test_refused_options(keys: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        OptimizerOptions(**{"learning_rate": 0.1, **keys})  # type: ignore[arg-type]
