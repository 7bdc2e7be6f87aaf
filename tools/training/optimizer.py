"""The update rule and its learning rate, as tables: name → how it is built.

The learning rate is a pure function of the step, so a resumed run needs no history to continue it.
"""

import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from models.method import ParameterGroup
from tools.runs.options import OptimizerOptions
from tools.training.lars import Lars

_CLIP_EPSILON: Final = 1e-6  # as in the authors' code of DINO

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
    `warmup_start` at step 0 to 1 at step W, or W − 1; then the schedule, whose share of the run
    done counts from the end of the warm-up.

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
        reached = warmup_steps - 1 if options.warmup_to == "last" else warmup_steps
        return options.warmup_start + (1 - options.warmup_start) * step / max(1, reached)
    if options.schedule_by == "epoch":
        step = max(warmup_steps, step - step % steps_per_epoch)
    done = (step - warmup_steps) / max(1, num_steps - warmup_steps)
    return SCHEDULES[options.schedule](options, step / steps_per_epoch, min(1.0, done))


def set_weight_decay(
    optimizer: Optimizer, options: OptimizerOptions, step: int, num_steps: int
) -> None:
    """Give the groups that decay the weight decay of a step, zero-based over the run."""
    if options.final_weight_decay is None:
        return
    share = 0.5 * (1 + math.cos(math.pi * min(1.0, step / num_steps)))
    final = options.final_weight_decay
    for group in optimizer.param_groups:
        if not group.get("excluded", False):
            group["weight_decay"] = final + (options.weight_decay - final) * share


@torch.no_grad()
def clip_each(parameters: Iterable[Tensor], norm: float) -> None:
    """Scale down every gradient whose 2-norm exceeds `norm`, each by itself."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    if gradients:
        norms = torch.stack(torch._foreach_norm(gradients))
        scales = (norm / (norms + _CLIP_EPSILON)).clamp_max(1)
        torch._foreach_mul_(gradients, list(scales.unbind()))


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
                table["lr"] *= options.norm_and_bias_scale
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
