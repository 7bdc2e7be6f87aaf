"""SimSiam: predict the other view's projection, which gets no gradient; no negatives, no copy.

Chen & He, "Exploring Simple Siamese Representation Learning", CVPR 2021, arXiv:2011.10566,
algorithm 1. The loss is half the sum of both directions, from -1 to 1.

Legend: B rows of one view, D embedding.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from gdt import Batch, global_mean
from models.method import Losses, Method, MethodOptions, Needs, ParameterGroup, Setting
from models.parts import Predictors
from models.parts.heads import norm_mlp, simsiam_predictor
from models.towers import Towers


@dataclass(frozen=True)
class SimSiamOptions(MethodOptions):
    """`[method]`: a prediction of the other view by the same network.

    Attributes:
        name: "simsiam".
        hidden_dim: width of the projector's two hidden layers.
        embedding_dim: length of the projection.
        predictor_dim: width of the predictor's hidden layer, a bottleneck.
        constant_predictor_rate: keep the predictor's learning rate at its peak, whatever the
            schedule, as with the authors' --fix-pred-lr.
    """

    name: Literal["simsiam"] = "simsiam"
    hidden_dim: int = 2048
    embedding_dim: int = 2048
    predictor_dim: int = 512
    constant_predictor_rate: bool = True

    def __post_init__(self) -> None:
        self._check_counts("hidden_dim", "embedding_dim", "predictor_dim")


class SimSiam(Method):
    """An encoder and a projector, and a predictor on one side only."""

    options_type = SimSiamOptions
    needs = Needs(2, 2, why="SimSiam predicts one view of a sample from the other")

    def __init__(self, options: SimSiamOptions, setting: Setting) -> None:
        super().__init__(options, setting)
        hidden, dim = options.hidden_dim, options.embedding_dim
        self.constant_predictor_rate = options.constant_predictor_rate
        self.towers = Towers(
            setting.encoders,
            self.plan,
            lambda features_dim: norm_mlp(features_dim, hidden, hidden, dim, last_norm=True),
        )
        self.predictors = Predictors(
            self.plan, lambda: simsiam_predictor(dim, options.predictor_dim)
        )

    def forward(self, batch: Batch) -> Losses:
        """Return the loss of a batch, a float32 scalar, and how far embeddings spread."""
        column = self.plan.names.index("augmentation")
        (z1, p1), (z2, p2) = (
            self.predictors.predict(self.towers, batch.where(column, view)) for view in (0, 1)
        )  # B × D each
        with torch.autocast(p1.device.type, enabled=False):
            one, two = (global_mean(negative_cosine(p, z)) / 2 for p, z in ((p1, z2), (p2, z1)))
        return Losses(one + two, _spread(z1))

    def parameter_groups(self) -> list[ParameterGroup]:
        """Return encoder and projector, and the predictors."""
        return [
            ParameterGroup(list(self.towers.parameters())),
            ParameterGroup(
                list(self.predictors.parameters()), constant_rate=self.constant_predictor_rate
            ),
        ]


def negative_cosine(prediction: Tensor, target: Tensor) -> Tensor:
    """Return the negative cosine of each pair of rows, [B].

    Args:
        prediction: [B, D].
        target: [B, D], of the other view; no gradient reaches it.
    """
    return -F.cosine_similarity(prediction, target.detach(), dim=1)


@torch.no_grad()
def _spread(projections: Tensor) -> Mapping[str, Tensor]:
    """Return the standard deviation of unit vectors [B, D], times √D: 1 spread out, 0 collapsed."""
    unit = F.normalize(projections, dim=1)
    return {"spread": unit.std(dim=0, correction=0).mean() * unit.shape[1] ** 0.5}
