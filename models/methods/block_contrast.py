"""Block contrast: a view against the mean of a block of its sample's views, and of other samples'.

Arora et al., "A Theoretical Analysis of Contrastive Unsupervised Representation Learning", ICML
2019, arXiv:1902.09229: its block loss. Representations are not normalised, and there is no
temperature. As the loss is convex, it is at most the mean of the pairs' losses.

Legend: B samples of this rank, P of all ranks, k negative blocks, D embedding.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from gdt import Batch, gather_with_gradients, global_mean
from models.method import Losses, Method, MethodOptions, Needs, Setting
from models.towers import Towers

Form = Literal["logistic", "hinge"]


@dataclass(frozen=True)
class BlockContrastOptions(MethodOptions):
    """`[method]`: a view against the means of blocks of views.

    Attributes:
        name: "block_contrast".
        embedding_dim: length of the representation, which is not normalised.
        loss: "logistic", to the base 2, or "hinge".
        negative_blocks: k, blocks of other samples of the batch that a view is compared with.
    """

    name: Literal["block_contrast"] = "block_contrast"
    embedding_dim: int = 128
    loss: Form = "logistic"
    negative_blocks: int = 1

    def __post_init__(self) -> None:
        self._check_counts("embedding_dim", "negative_blocks")


class BlockContrast(Method):
    """An encoder with a linear head; the views from the second on are a sample's block."""

    options_type = BlockContrastOptions
    needs = Needs(2, one_modality=True, why="block contrast compares a view with a block of others")

    def __init__(self, options: BlockContrastOptions, setting: Setting) -> None:
        super().__init__(options, setting)
        self.options, dim = options, options.embedding_dim
        if options.negative_blocks >= self.facts.batch_size:
            raise ValueError(
                f"method.negative_blocks = {options.negative_blocks} of other samples, and a "
                f"batch has {self.facts.batch_size}: lower it, or raise data.batch_size"
            )
        self.towers = Towers(
            setting.encoders, self.plan, lambda features_dim: nn.Linear(features_dim, dim)
        )

    def forward(self, batch: Batch) -> Losses:
        """Return the loss of a batch, a float32 scalar."""
        rows, codes = self.towers.project(batch)
        samples = codes[:, self.plan.names.index("sample")]
        view_of = codes[:, self.plan.names.index("augmentation")]
        own, place = samples.unique(return_inverse=True)  # B; of each row
        is_first = view_of == 0
        first = rows[is_first][place[is_first].argsort()]  # B × D
        sums = rows.new_zeros(len(own), rows.shape[1]).index_add(
            0, place[~is_first], rows[~is_first]
        )
        blocks = sums / (self.plan.draws("augmentation") - 1)  # B × D
        of_all, samples_of_all = gather_with_gradients(blocks, own[:, None])  # P × D
        with torch.autocast(rows.device.type, enabled=False):
            negatives = self._others(own, of_all, samples_of_all[:, 0])
            return Losses(global_mean(block_losses(first, blocks, negatives, self.options.loss)))

    def _others(self, own: Tensor, of_all: Tensor, samples: Tensor) -> Tensor:
        """Return the blocks of the k samples that follow each in order, [B, k, D]."""
        count = self.options.negative_blocks
        if count >= len(samples):
            raise ValueError(
                f"method.negative_blocks = {count} of other samples, and this batch has "
                f"{len(samples)} samples"
            )
        order = samples.argsort()
        place = torch.searchsorted(samples[order], own)  # B
        following = place[:, None] + torch.arange(1, count + 1, device=own.device)  # B × k
        return of_all[order[following % len(samples)]]


def block_losses(views: Tensor, blocks: Tensor, negatives: Tensor, form: Form) -> Tensor:
    """Return the loss of each view, [B].

    Args:
        views: f(x), [B, D].
        blocks: means of f over each one's positives, [B, D].
        negatives: means over blocks of others, [B, k, D].
        form: log2(1 + Σ exp −v) or max(0, 1 + max −v), of v = f(x)·(block − negative).
    """
    margins = ((blocks[:, None] - negatives) * views[:, None]).sum(dim=2)  # B × k
    if form == "hinge":
        return (1 + (-margins).amax(dim=1)).clamp_min(0)
    zero = margins.new_zeros(len(margins), 1)
    return torch.cat([zero, -margins], dim=1).logsumexp(dim=1) / math.log(2)
