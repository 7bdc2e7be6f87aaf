"""Training whose result does not depend on how rows are spread over ranks, for a child process."""

import time
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.multiprocessing.spawn import ProcessContext

import tools.training.fit
from gdt import Batch
from models import Method, MethodOptions, Setting, build_method
from tests.tools.training.commands import gdt
from tools.training.fit import Pretraining


def replace_batch_norms(module: nn.Module) -> None:
    """Put a norm over each row's own channels in the place of every norm over the batch."""
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d):
            setattr(module, name, nn.GroupNorm(1, child.num_features))
        replace_batch_norms(child)


def gdt_row_by_row(
    arguments: list[str],
    output: Path,
    hang_at: int | None = None,
    not_finite_at: int | None = None,
) -> None:
    """`gdt …` with a model in which no row sees another before the loss.

    Args:
        arguments: of the command.
        output: file of all that it prints.
        hang_at: the step at which the second rank waits for ever.
        not_finite_at: the step at which the second rank's loss is not finite.
    """

    def build(options: MethodOptions, setting: Setting) -> Method:
        method = build_method(options, setting)
        replace_batch_norms(method)
        return method

    step_of = Pretraining.training_step

    def step(self: Pretraining, batch: Batch, batch_idx: int) -> Any:
        if self.global_rank == 1 and self.global_step == hang_at:
            time.sleep(1000)
        found = step_of(self, batch, batch_idx)
        bad = self.global_rank == 1 and self.global_step == not_finite_at
        return found | {"loss": found["loss"] * float("nan")} if bad else found

    wait_for = ProcessContext.join

    def join(self: ProcessContext) -> bool:
        done: bool = wait_for(self, grace_period=1)  # for a hanging rank to end itself; else 30 s
        return done

    torch.set_num_threads(1)
    ProcessContext.join = join  # type: ignore[method-assign,assignment]
    tools.training.fit.build_method = build  # type: ignore[attr-defined]
    Pretraining.training_step = step  # type: ignore[method-assign]
    gdt(arguments, output, {})
