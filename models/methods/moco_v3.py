"""MoCo v3: predicted queries against the momentum encoder's keys of the other view; no queue.

Chen, Xie & He, "An Empirical Study of Training Self-Supervised Vision Transformers", ICCV 2021,
arXiv:2104.02057, algorithm 1. As in the authors' code the momentum encoder moves before its keys
are computed, both directions are added up, and each is multiplied by 2·temperature.

Legend: N queries of one view on this rank, P keys of one view of all ranks, D embedding.
"""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from gdt import Batch, Plan, contrastive_loss, gather_with_gradients, num_ranks, sum_over_ranks
from models.method import Losses, Method, MethodOptions, Needs, Setting
from models.parts import MomentumCopy, MomentumSchedule, Predictors
from models.parts.heads import norm_mlp
from models.towers import Towers


@dataclass(frozen=True)
class MoCoV3Options(MethodOptions):
    """`[method]`: predictions of a view against a momentum encoder's keys of the other.

    Attributes:
        name: "moco_v3".
        hidden_dim: width of the hidden layers of projector and predictor.
        embedding_dim: length of what they give.
        projector_layers: 2 for a ResNet, 3 for a ViT.
        predictor_norm: a batch norm at the predictor's end, which the paper has for a ViT.
        temperature: 1 for a ResNet-50, 0.2 for a ViT.
        momentum: share of the momentum encoder that is kept at the first step; it rises to 1 at the
            last along a half cosine.
    """

    name: Literal["moco_v3"] = "moco_v3"
    hidden_dim: int = 4096
    embedding_dim: int = 256
    projector_layers: int = 2
    predictor_norm: bool = False
    temperature: float = 1.0
    momentum: float = 0.99

    def __post_init__(self) -> None:
        self._check_counts("hidden_dim", "embedding_dim", "projector_layers")
        self._check_temperatures("temperature")
        self._check_shares("momentum")


class MoCoV3(Method):
    """An encoder with projector and predictor, and a momentum encoder with a projector."""

    options_type = MoCoV3Options
    needs = Needs(2, 2, why="MoCo v3 compares each view of a sample with the other's key")

    def __init__(self, options: MoCoV3Options, setting: Setting) -> None:
        super().__init__(options, setting)
        hidden, dim = options.hidden_dim, options.embedding_dim
        inner = [hidden] * (options.projector_layers - 1)
        self.temperature = options.temperature
        self.towers = Towers(
            setting.encoders,
            self.plan,
            lambda features_dim: norm_mlp(features_dim, *inner, dim, last_norm=True),
        )
        self.predictors = Predictors(
            self.plan, lambda: norm_mlp(dim, hidden, dim, last_norm=options.predictor_norm)
        )
        schedule = MomentumSchedule(options.momentum, rises=True, num_steps=self.facts.num_steps)
        self.momentum = MomentumCopy(self.towers, schedule)

    def forward(self, batch: Batch) -> Losses:
        """Return the loss of a batch, a float32 scalar; in training also move the copy."""
        column = self.plan.names.index("augmentation")
        views = [batch.where(column, view) for view in (0, 1)]
        queries = [self.predictors.predict(self.towers, view)[1] for view in views]  # N × D each
        with torch.no_grad():
            if self.training:
                step = batch.epoch * self.facts.steps_per_epoch + batch.step
                self.momentum.follow(self.towers, step)
            keys, codes = zip(*map(self.momentum.network, views), strict=True)  # N × D, N × M
        with torch.autocast(queries[0].device.type, enabled=False):
            one, two = (
                symmetric_term(
                    self.plan,
                    F.normalize(queries[ours], dim=1),
                    codes[ours],
                    *gather_with_gradients(keys[theirs], codes[theirs]),  # P × D, P × M
                    self.temperature,
                )
                for ours, theirs in ((0, 1), (1, 0))
            )
        return Losses(one + two, {"first_view": one, "second_view": two})


def symmetric_term(
    plan: Plan,
    queries: Tensor,
    query_codes: Tensor,
    keys: Tensor,
    key_codes: Tensor,
    temperature: float,
) -> Tensor:
    """Return 2·T times the contrastive loss of one view's queries, as a share of all ranks'.

    Args:
        plan: gives c and w.
        queries: [N, D], of length 1.
        query_codes: int64 [N, M].
        keys: [P, D], of length 1: the other view's, of all ranks.
        key_codes: int64 [P, M].
        temperature: T.
    """
    contrast = plan.contrast(query_codes, key_codes)  # N × P
    weight = plan.weight(query_codes, key_codes)  # N × P
    total = sum_over_ranks((contrast * weight).sum())  # ranks may hold different numbers of rows
    normalizer = total / num_ranks()
    loss = contrastive_loss(queries, keys, contrast, weight, temperature, normalizer=normalizer)
    return 2 * temperature * loss
