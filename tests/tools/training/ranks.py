"""Training whose result does not depend on how rows are spread over ranks, for a child process."""

from pathlib import Path

import torch
from torch import nn

import tools.training.fit
from gdt import Plan
from models import Method, ModelOptions, build_method
from tools.commands.pretrain import pretrain


def replace_batch_norms(module: nn.Module) -> None:
    """Put a norm over each row's own channels in the place of every norm over the batch."""
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d):
            setattr(module, name, nn.GroupNorm(1, child.num_features))
        replace_batch_norms(child)


def pretrain_row_by_row(config: Path, overrides: list[str], run: Path) -> None:
    """`gdt pretrain` with a model in which no row sees another before the loss."""

    def build(options: ModelOptions, plan: Plan) -> Method:
        method = build_method(options, plan)
        replace_batch_norms(method)
        return method

    torch.set_num_threads(1)
    tools.training.fit.build_method = build  # type: ignore[attr-defined]
    pretrain(str(config), overrides, run, resume=False)
