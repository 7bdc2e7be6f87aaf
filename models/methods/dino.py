"""DINO: predict the distribution that a slow teacher sees in global crops, from every other crop.

Caron et al., "Emerging Properties in Self-Supervised Vision Transformers", ICCV 2021,
arXiv:2104.14294, algorithm 1. The teacher's outputs are centred, by a running mean, and sharpened,
by a low temperature: without the one a single output wins, without the other all become alike.

Legend: B rows of one view, V views, D embedding, K outputs.
"""

from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gdt import Batch, sum_over_ranks
from models.method import Losses, Method, MethodOptions, Needs, Setting
from models.methods.swav import swapped_prediction_loss
from models.parts import MomentumCopy, MomentumSchedule
from models.parts.heads import dino_head
from models.towers import Towers


@dataclass(frozen=True)
class DINOOptions(MethodOptions):
    """`[method]`: a prediction of a momentum teacher's output for the global crops.

    Attributes:
        name: "dino".
        hidden_dim: width of the head's two hidden layers.
        embedding_dim: length of the L2-normalised vector before the last layer.
        num_outputs: K, of the last layer.
        temperature: of the student.
        teacher_temperature: of the teacher, after its warm-up.
        first_teacher_temperature: of the teacher in the first epoch of its warm-up.
        teacher_warmup_epochs: epochs in which the teacher's temperature goes, linearly, from first
            to last; 0 for none.
        center_momentum: share of the centre that is kept at each step.
        momentum: share of the teacher that is kept at the first step; it rises to 1 at the last
            along a half cosine.
        frozen_epochs: epochs at the start in which the last layer gets no gradient.
        global_views: how many views the teacher sees, from the first.
    """

    name: Literal["dino"] = "dino"
    hidden_dim: int = 2048
    embedding_dim: int = 256
    num_outputs: int = 65536
    temperature: float = 0.1
    teacher_temperature: float = 0.04
    first_teacher_temperature: float = 0.04
    teacher_warmup_epochs: int = 0
    center_momentum: float = 0.9
    momentum: float = 0.996
    frozen_epochs: int = 1
    global_views: int = 2

    def __post_init__(self) -> None:
        self._check_counts("hidden_dim", "embedding_dim", "num_outputs", "global_views")
        self._check_temperatures("temperature", "teacher_temperature", "first_teacher_temperature")
        self._check_shares("center_momentum", "momentum")
        for key in ("teacher_warmup_epochs", "frozen_epochs"):
            self._check(key, getattr(self, key) >= 0, "at least 0")

    def teacher_temperature_at(self, epoch: int) -> float:
        """Return the teacher's temperature in an epoch, zero-based."""
        if epoch >= self.teacher_warmup_epochs:
            return self.teacher_temperature
        share = epoch / max(1, self.teacher_warmup_epochs - 1)  # the last epoch has reached it
        first = self.first_teacher_temperature
        return first + (self.teacher_temperature - first) * share


class LastLayer(nn.Module):
    """A linear layer whose rows count by their direction only: weight norm with a fixed length 1.

    Args:
        dim: D.
        num_outputs: K.
    """

    def __init__(self, dim: int, num_outputs: int) -> None:
        super().__init__()
        self.directions = nn.Parameter(nn.Linear(dim, num_outputs, bias=False).weight.detach())

    def forward(self, embeddings: Tensor) -> Tensor:
        """Return outputs [B, K] of embeddings [B, D]."""
        return F.linear(embeddings, F.normalize(self.directions, dim=1))


class DINO(Method):
    """Student and teacher, each an encoder, a head and a last layer; and the teacher's centre."""

    options_type = DINOOptions
    needs = Needs(least_views=2, why="DINO predicts what the teacher says of another view")
    center: Tensor  # K

    def __init__(self, options: DINOOptions, setting: Setting) -> None:
        super().__init__(options, setting)
        self.num_views = self.plan.draws("augmentation")
        if options.global_views > self.num_views:
            raise ValueError(
                f"method.global_views = {options.global_views}, and the plan draws "
                f"{self.num_views} views: raise plan.augmentation.draws, or take fewer"
            )
        self.options = options
        sizes = options.hidden_dim, options.embedding_dim
        self.towers = Towers(
            setting.encoders, self.plan, lambda features_dim: dino_head(features_dim, *sizes)
        )
        self.last_layer = LastLayer(options.embedding_dim, options.num_outputs)
        schedule = MomentumSchedule(options.momentum, rises=True, num_steps=self.facts.num_steps)
        self.teacher = MomentumCopy(self.towers, schedule)
        self.teacher_last_layer = MomentumCopy(self.last_layer, schedule)
        self.register_buffer("center", torch.zeros(options.num_outputs))

    def forward(self, batch: Batch) -> Losses:
        """Return the loss of a batch, a float32 scalar; in training also move the centre."""
        column = self.plan.names.index("augmentation")
        count = self.options.global_views
        embeddings, codes = self.towers(batch)  # V·B × D
        views = (view[view.codes[:, column] < count] for view in batch.views)
        seen = replace(batch, views=tuple(view for view in views if len(view)))
        with torch.no_grad():
            teacher_embeddings, teacher_codes = self.teacher.network(seen)
        with torch.autocast(embeddings.device.type, enabled=False):
            outputs = self.last_layer(embeddings) / self.options.temperature  # V·B × K
            with torch.no_grad():
                raw = self.teacher_last_layer.network(teacher_embeddings)
                temperature = self.options.teacher_temperature_at(batch.epoch)
                targets = F.softmax((raw - self.center) / temperature, dim=1)
            loss = swapped_prediction_loss(
                [outputs[codes[:, column] == view] for view in range(self.num_views)],
                [targets[teacher_codes[:, column] == view] for view in range(count)],
            )
            if self.training:
                self._move_center(raw)
        return Losses(loss)

    def after_backward(self, step: int) -> None:
        """Leave the last layer as it is in the first epochs."""
        if step < self.options.frozen_epochs * self.facts.steps_per_epoch:
            self.last_layer.directions.grad = None

    def after_step(self, step: int) -> None:
        """Move the teacher towards the student."""
        self.teacher.follow(self.towers, step)
        self.teacher_last_layer.follow(self.last_layer, step)

    @torch.no_grad()
    def _move_center(self, raw: Tensor) -> None:
        """Move the centre towards the mean of the teacher's outputs over all ranks."""
        count = sum_over_ranks(raw.new_tensor(float(len(raw))))
        mean = sum_over_ranks(raw.sum(0)) / count
        momentum = self.options.center_momentum
        self.center.mul_(momentum).add_(mean, alpha=1 - momentum)
