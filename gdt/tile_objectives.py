"""The contrastive objectives as sums over tiles: a few numbers a row, then the gradient of a tile.

Each is made for Q rows, sees every tile once in each of its passes, then knows the rows' losses and
can give ∂/∂s of any tile that comes again. `gdt.objectives` has the same on a whole matrix.

Legend: Q queries; q, k the sides of a tile; p = c·w.
"""

import math
from abc import ABC, abstractmethod
from typing import ClassVar, Final

import torch
import torch.nn.functional as F
from torch import Tensor

from gdt.tiles import Tile


class TileObjective(ABC):
    """State of Q rows, [Q] each, zero before the first tile."""

    #: For each pass over the tiles, whether it wants those without a positive too.
    passes: ClassVar[tuple[bool, ...]] = (True,)

    def __init__(self, num_rows: int, like: Tensor) -> None:
        self.positives = like.new_zeros(num_rows)  # Σ p
        self.losses = like.new_zeros(num_rows)

    @abstractmethod
    def see(self, number: int, tile: Tile, logits: Tensor) -> None:
        """Take in a tile's logits [q, k], which it may change, in pass `number`."""

    def finish(self) -> None:
        """Make `losses` of what was seen, where it is not made already."""
        return

    @abstractmethod
    def gradient(self, tile: Tile, logits: Tensor, scale: Tensor) -> Tensor:
        """∂ Σ_i scale_i·losses_i / ∂s of a tile, [q, k]; may change the logits.

        Args:
            tile: one that was seen.
            logits: s, [q, k].
            scale: [Q].
        """


class Softmax(TileObjective):
    """Σ_j p·(lse − s), lse = log Σ_k w·exp s: one running log-sum-exp a row."""

    def __init__(self, num_rows: int, like: Tensor) -> None:
        super().__init__(num_rows, like)
        self.lse = like.new_full((num_rows,), -math.inf)

    def see(self, number: int, tile: Tile, logits: Tensor) -> None:
        """Add to Σ p, to Σ p·s and to lse."""
        rows, _, contrast, weight = tile
        if contrast is not None:
            positives = contrast * weight
            self.positives[rows] += positives.sum(1)
            self.losses[rows] -= (positives * logits).sum(1)
        lse = _add_log(logits, weight).logsumexp(1)
        self.lse[rows] = torch.logaddexp(self.lse[rows], lse)

    def finish(self) -> None:
        """Σ p·lse − Σ p·s, where a row has a positive."""
        self.lse.masked_fill_(self.positives == 0, 0)
        self.losses += self.positives * self.lse

    def gradient(self, tile: Tile, logits: Tensor, scale: Tensor) -> Tensor:
        """scale·(Σp · w·exp(s − lse) − p)."""
        rows, _, contrast, weight = tile
        gradient = _add_log(logits, weight).sub_(self.lse[rows, None]).exp_()
        gradient *= (scale * self.positives)[rows, None]
        if contrast is not None:
            gradient -= contrast * weight * scale[rows, None]
        return gradient


class SoftmaxOfOne(TileObjective):
    """Σ_j p·(log(w·exp s + N) − s), N = Σ w·exp s of the row's negatives: N first, then the sum."""

    passes = (True, False)

    def __init__(self, num_rows: int, like: Tensor) -> None:
        super().__init__(num_rows, like)
        self.log_negatives = like.new_full((num_rows,), -math.inf)  # log N
        self.log_push = like.new_full((num_rows,), -math.inf)  # log Σ_j p / (w·exp s + N)

    def see(self, number: int, tile: Tile, logits: Tensor) -> None:
        """Negatives in the first pass; in the second, each positive against them."""
        rows, _, contrast, weight = tile
        if number == 0:
            logits = _add_log(logits, weight)
            if contrast is not None:
                logits = logits.masked_fill(contrast * weight > 0, -math.inf)
            lse = logits.logsumexp(1)
            self.log_negatives[rows] = torch.logaddexp(self.log_negatives[rows], lse)
        elif contrast is not None:
            positives = contrast * weight
            denominator = self._denominator(rows, logits, positives, weight)
            self.positives[rows] += positives.sum(1)
            self.losses[rows] += (positives * (denominator - logits)).sum(1)
            push = (positives.log() - denominator).logsumexp(1)
            self.log_push[rows] = torch.logaddexp(self.log_push[rows], push)

    def gradient(self, tile: Tile, logits: Tensor, scale: Tensor) -> Tensor:
        """scale·p·(w·exp s / (w·exp s + N) − 1) of positives, scale·push·w·exp s of negatives."""
        rows, _, contrast, weight = tile
        if contrast is None:
            gradient = _add_log(logits, weight).add_(self.log_push[rows, None]).exp_()
            return gradient.mul_(scale[rows, None])
        positives = contrast * weight
        denominator = self._denominator(rows, logits, positives, weight)
        own = _add_log(logits, weight)
        pushed = (own + self.log_push[rows, None]).exp()
        pulled = positives * (own - denominator).expm1()
        return torch.where(positives > 0, pulled, pushed).mul_(scale[rows, None])

    def _denominator(
        self, rows: slice, logits: Tensor, positives: Tensor, weight: Tensor | float
    ) -> Tensor:
        """log(w·exp s + N) of positives, any finite number elsewhere."""
        own = _add_log(logits.clone(), weight).masked_fill_(positives == 0, 0)
        return torch.logaddexp(own, self.log_negatives[rows, None])


class Sigmoid(TileObjective):
    """Σ_j w·( c·log(1 + exp −s) + (1 − c)·log(1 + exp s) )."""

    def see(self, number: int, tile: Tile, logits: Tensor) -> None:
        """Add to Σ p and to the loss."""
        rows, _, contrast, weight = tile
        if contrast is None:
            self.losses[rows] += (F.softplus(logits) * weight).sum(1)
            return
        negative = (1 - contrast).clamp_min_(0)
        cost = contrast * F.softplus(-logits) + negative * F.softplus(logits)
        self.losses[rows] += (cost * weight).sum(1)
        self.positives[rows] += (contrast * weight).sum(1)

    def gradient(self, tile: Tile, logits: Tensor, scale: Tensor) -> Tensor:
        """scale·w·((1 − c)·σ(s) − c·σ(−s))."""
        rows, _, contrast, weight = tile
        if contrast is None:
            return logits.sigmoid_().mul_(weight).mul_(scale[rows, None])
        gradient = (1 - contrast).clamp_min_(0) * logits.sigmoid()
        gradient -= contrast * (-logits).sigmoid_()
        return gradient.mul_(weight).mul_(scale[rows, None])


#: (objective, other_positives) of `LossOptions` → its form over tiles
TILE_OBJECTIVES: Final[dict[tuple[str, str], type[TileObjective]]] = {
    ("softmax", "in"): Softmax,
    ("softmax", "out"): SoftmaxOfOne,
    ("sigmoid", "in"): Sigmoid,
}


def _add_log(logits: Tensor, weight: Tensor | float) -> Tensor:
    """Logits + log w, in place; −∞ where w is 0."""
    if isinstance(weight, Tensor):
        return logits.add_(weight.log())
    return logits if weight == 1 else logits.add_(math.log(weight))
