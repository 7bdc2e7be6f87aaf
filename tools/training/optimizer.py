"""The update rule and its learning rate, as tables: name → how it is built.

The learning rate is a pure function of the step, so a resumed run needs no history to continue it.
"""

import math
from bisect import bisect_right
from collections.abc import Callable, Iterable
from typing import Final

from torch.nn import Parameter
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from tools.runs.options import OptimizerOptions

OptimizerConstructor = Callable[[Iterable[Parameter], float, OptimizerOptions], Optimizer]

OPTIMIZERS: Final[dict[str, OptimizerConstructor]] = {
    "sgd": lambda parameters, learning_rate, options: SGD(
        parameters,
        lr=learning_rate,
        momentum=options.momentum,
        weight_decay=options.weight_decay,
    ),
    "adamw": lambda parameters, learning_rate, options: AdamW(
        parameters,
        lr=learning_rate,
        betas=(options.momentum, 0.999),
        weight_decay=options.weight_decay,
    ),
}

#: schedule → factor after the warm-up, of (options, epoch as a fraction, share of the run done)
SCHEDULES: Final[dict[str, Callable[[OptimizerOptions, float, float], float]]] = {
    "constant": lambda options, epoch, done: 1.0,
    "cosine": lambda options, epoch, done: 0.5 * (1 + math.cos(math.pi * done)),
    "steps": lambda options, epoch, done: (
        options.gamma ** bisect_right(options.milestones_epochs, epoch)
    ),
}


def learning_rate_factor(
    options: OptimizerOptions, step: int, steps_per_epoch: int, num_steps: int
) -> float:
    """What the learning rate is multiplied by at a step.

    Linear from 1/W to 1 over the W steps of the warm-up (Goyal et al. 2017, section 2.2); then the
    schedule, whose share of the run done counts from the end of the warm-up.

    Args:
        options: schedule, warm-up, milestones.
        step: zero-based, over the whole run.
        steps_per_epoch: steps of one pass over the data set.
        num_steps: steps of the whole run.
    """
    warmup_steps = round(options.warmup_epochs * steps_per_epoch)
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    done = (step - warmup_steps) / max(1, num_steps - warmup_steps)
    return SCHEDULES[options.schedule](options, step / steps_per_epoch, min(1.0, done))


def build_optimizer(
    options: OptimizerOptions,
    parameters: Iterable[Parameter],
    *,
    num_ranks: int,
    steps_per_epoch: int,
    num_steps: int,
) -> tuple[Optimizer, LambdaLR]:
    """The optimizer over the trainable ones of `parameters`, and its schedule by steps."""
    trainable = [parameter for parameter in parameters if parameter.requires_grad]
    learning_rate = options.learning_rate * (num_ranks if options.scale_by_ranks else 1)
    optimizer = OPTIMIZERS[options.name](trainable, learning_rate, options)

    def factor(step: int) -> float:
        return learning_rate_factor(options, step, steps_per_epoch, num_steps)

    return optimizer, LambdaLR(optimizer, factor)
