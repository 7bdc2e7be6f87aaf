"""Stops a run before an update that a loss or gradient that is not finite would make.

Every rank stops at the same step, with the weights as they were, and names the samples.

Legend: B rows, M factors.
"""

import math
from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.plugins import MixedPrecision
from lightning.pytorch.strategies import FSDPStrategy
from torch import Tensor
from torch.optim import Optimizer

from gdt import Batch, Plan
from shards import Samples

_MOST_NAMES = 20


class TrainingError(Exception):
    """Training that cannot go on; the message says why."""


class StopWhereNotFinite(Callback):
    """Looks at the loss and the gradient between the backward pass and the update.

    In float16 a gradient that overflows is Lightning's matter, which makes the loss scale smaller
    and passes the update over; a scale below 1 is the sign of one that is finite at no scale.

    Args:
        dataset: names the samples.
        plan: says where their numbers stand in the codes.

    Attributes:
        loss: of the step in hand, this rank's share.
        gradient_norm: of the step in hand, before it is clipped.
    """

    def __init__(self, dataset: Samples, plan: Plan) -> None:
        self.dataset, self.plan = dataset, plan
        self.loss = self.gradient_norm = math.nan
        self._batch: Batch | None = None

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Remember whose step it is."""
        self._batch = batch

    def on_before_backward(
        self, trainer: Trainer, pl_module: LightningModule, loss: Tensor
    ) -> None:
        """Remember the loss."""
        self._loss = loss.detach()

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer
    ) -> None:
        """Go on only where both are finite, on all ranks.

        Raises:
            TrainingError: one is not.
        """
        squares = sum_of_squares(optimizer, self._loss)
        if isinstance(trainer.strategy, FSDPStrategy):  # each rank has a part of the gradient
            dist.all_reduce(squares)
        scaler = _scaler(trainer)
        is_bad = ~torch.isfinite(self._loss)
        if scaler is None:
            is_bad = is_bad | ~torch.isfinite(squares)
        elif scaler.get_scale() < 1:
            is_bad = torch.ones_like(is_bad)
        found = torch.stack([is_bad.double(), self._loss.double(), squares.double()])
        bad, self.loss, total = found.tolist()  # the step's one wait for the device
        self.gradient_norm = math.sqrt(total) if total >= 0 else total
        if dist.is_available() and dist.is_initialized():
            anyone = torch.tensor([bad], device=self._loss.device)
            dist.all_reduce(anyone, dist.ReduceOp.MAX)
            bad = anyone.item()
        if bad:
            raise TrainingError(self._message(trainer.global_step))

    def _message(self, step: int) -> str:
        assert self._batch is not None
        mine = {
            "loss": self.loss,
            "gradient": self.gradient_norm,
            "keys": self.keys_of(self._batch),
            "inputs": self.bad_inputs(self._batch),
        }
        ranks: list[Any] = [mine]
        if dist.is_available() and dist.is_initialized():
            ranks = [None] * dist.get_world_size()
            dist.all_gather_object(ranks, mine)
        losses = [rank["loss"] for rank in ranks if not math.isfinite(rank["loss"])]
        gradients = [rank["gradient"] for rank in ranks]
        what = (
            f"the loss is {losses[0]}" if losses else f"the gradient's norm is {gradients[0]}"
        ) + f" at step {step} (epoch {self._batch.epoch + 1})"
        inputs = [line for rank in ranks for line in rank["inputs"]]
        if inputs:
            remedy = f"not finite themselves are {_names(inputs)}: `gdt shards verify` checks them"
        else:
            remedy = (
                "lower optimizer.learning_rate, lengthen optimizer.warmup_epochs, or set "
                "trainer.gradient_clip_norm"
            )
        keys = [key for rank in ranks for key in rank["keys"]]
        return (
            f"{what}: stopped before the update, so that the weights are those of the step before; "
            f"{remedy}. Samples of the step: {_names(keys)}"
        )

    def keys_of(self, batch: Batch) -> list[str]:
        """The keys of a batch's samples, each once."""
        numbers: dict[int, None] = {}
        for view in batch.views:
            numbers |= dict.fromkeys(view.codes[:, self.plan.column("sample")].tolist())
        return [self.dataset.sample(number).key for number in numbers]

    def bad_inputs(self, batch: Batch) -> list[str]:
        """Which samples' values are not finite, and in which modality."""
        lines = []
        for view in batch.views:
            is_bad = ~torch.isfinite(view.values.flatten(1)).all(1)  # B
            numbers = view.codes[is_bad][:, self.plan.column("sample")].unique()
            lines += [f"{self.dataset.sample(n).key} ({view.modality})" for n in numbers.tolist()]
        return lines


def sum_of_squares(optimizer: Optimizer, like: Tensor) -> Tensor:
    """Of all gradients, a float32 scalar: its root is their norm."""
    gradients = [
        parameter.grad
        for group in optimizer.param_groups
        for parameter in group["params"]
        if parameter.grad is not None
    ]
    if not gradients:
        return torch.zeros((), device=like.device)
    return torch.stack(torch._foreach_norm([g.float() for g in gradients])).square().sum()


def _scaler(trainer: Trainer) -> Any:
    plugin = trainer.precision_plugin
    return plugin.scaler if isinstance(plugin, MixedPrecision) else None


def _names(names: list[str]) -> str:
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return ", ".join(names[:_MOST_NAMES]) + more
