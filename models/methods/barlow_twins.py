"""Barlow Twins: each dimension correlates with itself in the other view, and with no other.

Zbontar et al., "Barlow Twins: Self-Supervised Learning via Redundancy Reduction", ICML 2021,
arXiv:2103.03230, §2.1 and algorithm 1.

Statistics and correlations are those of the whole batch over all ranks, and so is the gradient. The
authors' code gives each of W ranks the gradient of its own part, 1/W of it in the end: LARS hides
that for weights, not for biases and norms, whose learning rate there presupposes it.

Legend: B rows of one view on this rank, N of all ranks, D embedding.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from gdt import Batch, sum_over_ranks
from models.method import Losses, Method, MethodOptions, Needs, Setting
from models.parts.heads import norm_mlp
from models.towers import Towers

_EPSILON = 1e-5  # of batch norm


@dataclass(frozen=True)
class BarlowTwinsOptions(MethodOptions):
    """`[method]`: a cross-correlation of both views that is to be the identity.

    Attributes:
        name: "barlow_twins".
        hidden_dim: width of the projector's two hidden layers.
        embedding_dim: length of the projection: more is better, with less in the encoder.
        off_diagonal: λ, weight of the correlations between different dimensions.
    """

    name: Literal["barlow_twins"] = "barlow_twins"
    hidden_dim: int = 8192
    embedding_dim: int = 8192
    off_diagonal: float = 0.0051

    def __post_init__(self) -> None:
        self._check_counts("hidden_dim", "embedding_dim")
        self._check("off_diagonal", self.off_diagonal > 0, "above 0")


class BarlowTwins(Method):
    """An encoder and a wide projector; no negatives, no predictor, no copy."""

    options_type = BarlowTwinsOptions
    needs = Needs(2, 2, why="Barlow Twins correlates two views of a sample")

    def __init__(self, options: BarlowTwinsOptions, setting: Setting) -> None:
        super().__init__(options, setting)
        self.off_diagonal = options.off_diagonal
        sizes = options.hidden_dim, options.hidden_dim, options.embedding_dim
        self.towers = Towers(
            setting.encoders,
            self.plan,
            lambda features_dim: norm_mlp(features_dim, *sizes, last_norm=False),
        )

    def forward(self, batch: Batch) -> Losses:
        """Return the loss of a batch, a float32 scalar: the mean over modalities."""
        column = self.plan.names.index("augmentation")
        views = [self.towers.project(batch.where(column, view)) for view in (0, 1)]
        modality = self.plan.names.index("modality")
        with torch.autocast(views[0][0].device.type, enabled=False):
            pairs = [
                cross_correlation(*(rows[codes[:, modality] == number] for rows, codes in views))
                for number in range(len(self.plan.modalities))
            ]
            on = torch.stack([(pair.diagonal() - 1).square().sum() for pair in pairs]).mean()
            off = torch.stack(
                [pair.square().sum() - pair.diagonal().square().sum() for pair in pairs]
            ).mean()
        return Losses(on + self.off_diagonal * off, {"on_diagonal": on, "off_diagonal": off})


def cross_correlation(first: Tensor, second: Tensor) -> Tensor:
    """Return the correlation of each dimension of one view with each of the other, [D, D].

    Args:
        first: [B, D]; statistics are those of the N rows of all ranks.
        second: [B, D], the same samples in the same order.
    """
    count = sum_over_ranks(first.new_tensor(float(len(first))))  # N
    return sum_over_ranks(_standardized(first, count).T @ _standardized(second, count)) / count


def _standardized(rows: Tensor, count: Tensor) -> Tensor:
    """Bring each dimension of [B, D] to mean 0 and variance 1, with gradients through both."""
    centred = rows - sum_over_ranks(rows.sum(0)) / count
    variance = sum_over_ranks(centred.square().sum(0)) / count  # biased, as batch norm has it
    return centred * (variance + _EPSILON).rsqrt()
