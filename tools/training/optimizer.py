"""The update rule and its learning rate, as tables: name → how it is built.

The learning rate is a pure function of the step, so a resumed run needs no history to continue it.
"""

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

from torch.nn import Parameter
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from models.method import ParameterGroup
from tools.runs.options import OptimizerOptions
from tools.training.lars import Lars

OptimizerConstructor = Callable[[list[dict[str, Any]], float, OptimizerOptions], Optimizer]

OPTIMIZERS: Final[dict[str, OptimizerConstructor]] = {
    "sgd": lambda groups, learning_rate, options: SGD(
        groups,
        lr=learning_rate,
        momentum=options.momentum,
        weight_decay=options.weight_decay,
    ),
    "adamw": lambda groups, learning_rate, options: AdamW(
        groups,
        lr=learning_rate,
        betas=(options.momentum, options.second_momentum),
        weight_decay=options.weight_decay,
    ),
    "lars": lambda groups, learning_rate, options: Lars(
        groups,
        lr=learning_rate,
        momentum=options.momentum,
        weight_decay=options.weight_decay,
        trust=options.trust,
        form=options.lars,
    ),
}

#: schedule → factor after the warm-up, of (options, epoch as a fraction, share of the run done)
SCHEDULES: Final[dict[str, Callable[[OptimizerOptions, float, float], float]]] = {
    "constant": lambda options, epoch, done: 1.0,
    "cosine": lambda options, epoch, done: (
        options.final_share + (1 - options.final_share) * 0.5 * (1 + math.cos(math.pi * done))
    ),
    "steps": lambda options, epoch, done: (
        options.gamma ** bisect_right(options.milestones_epochs, epoch)
    ),
}


def learning_rate_factor(
    options: OptimizerOptions, step: int, steps_per_epoch: int, num_steps: int
) -> float:
    """What the learning rate is multiplied by at a step.

    Linear from 1/W to 1 over the W steps of the warm-up (Goyal et al. 2017, section 2.2), or from
    `warmup_start` at step 0 to 1 at step W; then the schedule, whose share of the run done counts
    from the end of the warm-up.

    Args:
        options: schedule, warm-up, milestones.
        step: zero-based, over the whole run.
        steps_per_epoch: steps of one pass over the data set.
        num_steps: steps of the whole run.
    """
    warmup_steps = options.warmup_steps or round(options.warmup_epochs * steps_per_epoch)
    if step < warmup_steps:
        if options.warmup_start is None:
            return (step + 1) / warmup_steps
        return options.warmup_start + (1 - options.warmup_start) * step / warmup_steps
    if options.schedule_by == "epoch":
        step = max(warmup_steps, step - step % steps_per_epoch)
    done = (step - warmup_steps) / max(1, num_steps - warmup_steps)
    return SCHEDULES[options.schedule](options, step / steps_per_epoch, min(1.0, done))


def build_optimizer(
    options: OptimizerOptions,
    groups: Sequence[ParameterGroup],
    *,
    num_ranks: int,
    steps_per_epoch: int,
    num_steps: int,
) -> tuple[Optimizer, LambdaLR]:
    """The optimizer over the trainable parameters of the groups, and its schedule by steps."""
    learning_rate = options.learning_rate * (num_ranks if options.scale_by_ranks else 1)
    tables: list[dict[str, Any]] = []
    factors: list[Callable[[int], float]] = []

    def factor(step: int, *, constant: bool) -> float:
        if constant:
            return 1.0
        return learning_rate_factor(options, step, steps_per_epoch, num_steps)

    for group in groups:
        for parameters, is_excluded in _parted(group, exclude=options.exclude_norm_and_bias):
            table: dict[str, Any] = {"params": parameters, "lr": learning_rate * group.rate_scale}
            if is_excluded:
                table |= {"weight_decay": 0.0, "excluded": True}
            tables.append(table)
            factors.append(partial(factor, constant=group.constant_rate))
    optimizer = OPTIMIZERS[options.name](tables, learning_rate, options)
    return optimizer, LambdaLR(optimizer, factors)


def _parted(group: ParameterGroup, *, exclude: bool) -> list[tuple[list[Parameter], bool]]:
    """Return the trainable parameters, and whether they are excluded from decay and adaptation."""
    trainable = [parameter for parameter in group.parameters if parameter.requires_grad]
    if not exclude:
        return [(trainable, False)] if trainable else []
    kept = [parameter for parameter in trainable if parameter.ndim > 1]
    excluded = [parameter for parameter in trainable if parameter.ndim <= 1]
    return [part for part in ((kept, False), (excluded, True)) if part[0]]
