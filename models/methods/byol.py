"""BYOL: predict what a slowly moving copy of the network says of the other view; no negatives.

Grill et al., "Bootstrap Your Own Latent", 2020, arXiv:2006.07733, §3. The loss is that of the
authors' code: the sum of both directions, from 0 to 8.

Legend: B rows of one view, D embedding.
"""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from gdt import Batch, global_mean
from models.method import Losses, Method, MethodOptions, Needs, Setting
from models.parts import MomentumCopy, MomentumSchedule, Predictors
from models.parts.heads import byol_head
from models.towers import Towers


@dataclass(frozen=True)
class BYOLOptions(MethodOptions):
    """`[method]`: a prediction of what a momentum copy says of the other view.

    Attributes:
        name: "byol".
        hidden_dim: width of the hidden layer of projector and predictor.
        embedding_dim: length of what they give.
        momentum: share τ of the target network that is kept at the first step; it rises to 1 at the
            last along a half cosine (the paper: 0.996 for 1000 epochs, 0.99 for 300 and fewer).
    """

    name: Literal["byol"] = "byol"
    hidden_dim: int = 4096
    embedding_dim: int = 256
    momentum: float = 0.996

    def __post_init__(self) -> None:
        self._check_counts("hidden_dim", "embedding_dim")
        self._check_shares("momentum")


class BYOL(Method):
    """An online network with a predictor, and a target network that follows it."""

    options_type = BYOLOptions
    needs = Needs(2, 2, why="BYOL predicts one view of a sample from the other")

    def __init__(self, options: BYOLOptions, setting: Setting) -> None:
        super().__init__(options, setting)
        dim = options.embedding_dim
        sizes = options.hidden_dim, dim
        self.towers = Towers(
            setting.encoders, self.plan, lambda features_dim: byol_head(features_dim, *sizes)
        )
        self.predictors = Predictors(self.plan, lambda: byol_head(dim, *sizes))
        schedule = MomentumSchedule(options.momentum, rises=True, num_steps=self.facts.num_steps)
        self.target = MomentumCopy(self.towers, schedule)

    def forward(self, batch: Batch) -> Losses:
        """Return the loss of a batch, a float32 scalar."""
        column = self.plan.names.index("augmentation")
        first, second = (batch.where(column, view) for view in (0, 1))
        with torch.no_grad():
            targets = [
                self.target.network.project(view)[0] for view in (first, second)
            ]  # B × D each
        predictions = [
            self.predictors.predict(self.towers, view)[1] for view in (first, second)
        ]  # B × D each
        with torch.autocast(predictions[0].device.type, enabled=False):
            one = global_mean(regression_loss(predictions[0], targets[1]))
            two = global_mean(regression_loss(predictions[1], targets[0]))
        return Losses(one + two, {"predicts_second": one, "predicts_first": two})

    def after_step(self, step: int) -> None:
        """Move the target network towards the online one."""
        self.target.follow(self.towers, step)


def regression_loss(prediction: Tensor, target: Tensor) -> Tensor:
    """Return the squared distance of the two, each at length 1: 2 − 2·cos, [B].

    Args:
        prediction: [B, D].
        target: [B, D], of the other view; no gradient reaches it.
    """
    ours, theirs = F.normalize(prediction, dim=1), F.normalize(target.detach(), dim=1)
    return (ours - theirs).square().sum(dim=1)
