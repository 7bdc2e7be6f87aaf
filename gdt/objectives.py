"""Contrastive objectives over c and w, row by row, on a whole matrix of logits.

Each takes logits s [Q, K] and c, w [Q, K], and gives each row's sum over its pairs, and its Σ c·w.
A mean over these is the loss (`gdt.loss`). An entry of c·w above 0 is a positive.

Legend: Q queries, K keys.
"""

from collections.abc import Callable
from typing import Final, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from gdt.loss_options import LossOptions


class RowLosses(NamedTuple):
    """What the rows of a matrix cost.

    Attributes:
        losses: [Q], Σ over a row's pairs, not yet divided.
        positives: [Q], Σ c·w of the row; no gradient.
    """

    losses: Tensor
    positives: Tensor


def softmax(logits: Tensor, contrast: Tensor, weight: Tensor) -> RowLosses:
    """− Σ_j c·w·log( exp s_j / Σ_k w_k·exp s_k ): the paper's equation 1."""
    # A row without any pair would give −inf − (−inf); it has no positive, so any constant serves.
    log_weight = torch.where((weight > 0).any(1, keepdim=True), weight.log(), 0.0)  # Q x K
    log_prob = logits - (logits + log_weight).logsumexp(1, keepdim=True)  # Q x K
    positives = contrast * weight  # Q x K
    return RowLosses(-(positives * log_prob).sum(1), positives.sum(1))


def softmax_of_one(logits: Tensor, contrast: Tensor, weight: Tensor) -> RowLosses:
    """− Σ_j c·w·log( exp s_j / (w_j·exp s_j + Σ_k∉positives w_k·exp s_k) ): each positive alone."""
    positives = contrast * weight  # Q x K
    is_positive = positives > 0  # Q x K
    negative_weight = weight.masked_fill(is_positive, 0)  # Q x K
    has_negative = (negative_weight > 0).any(1, keepdim=True)  # Q x 1
    log_weight = torch.where(has_negative, negative_weight.log(), 0.0)  # Q x K
    negatives = (logits + log_weight).logsumexp(1, keepdim=True)  # Q x 1
    negatives = torch.where(has_negative, negatives, -torch.inf)
    own = logits + torch.where(is_positive, weight, 1.0).log()  # Q x K
    log_prob = logits - torch.logaddexp(own, negatives)  # Q x K
    return RowLosses(-(positives * log_prob).sum(1), positives.sum(1))


def sigmoid(logits: Tensor, contrast: Tensor, weight: Tensor) -> RowLosses:
    """− Σ_j w·( c·log σ(s_j) + (1 − c)·log σ(−s_j) ): each pair alone, as SigLIP has it."""
    negative = (1 - contrast).clamp_min(0)  # Q x K
    log_prob = contrast * F.logsigmoid(logits) + negative * F.logsigmoid(-logits)  # Q x K
    return RowLosses(-(weight * log_prob).sum(1), (contrast * weight).sum(1))


OBJECTIVES: Final[dict[tuple[str, str], Callable[[Tensor, Tensor, Tensor], RowLosses]]] = {
    ("softmax", "in"): softmax,
    ("softmax", "out"): softmax_of_one,
    ("sigmoid", "in"): sigmoid,
}


def row_losses(logits: Tensor, contrast: Tensor, weight: Tensor, options: LossOptions) -> RowLosses:
    """The rows' losses under the objective that the options name."""
    return OBJECTIVES[options.objective, options.other_positives](logits, contrast, weight)


def numerator_and_count(rows: RowLosses, options: LossOptions) -> tuple[Tensor, Tensor]:
    """The loss as a fraction, so that ranks can add up what they divide by.

    Returns:
        Two scalars: Σ of the rows' losses and Σ c·w; or Σ of the rows' means over their positives
        and the number of rows that have some.
    """
    losses, positives = rows
    if options.reduction == "pair":
        return losses.sum(), positives.sum()
    has_positive = positives > 0
    means = torch.where(has_positive, losses / positives.where(has_positive, 1.0), 0.0)
    return means.sum(), has_positive.sum().to(losses.dtype)


def fraction(numerator: Tensor, count: Tensor) -> Tensor:
    """Numerator over count; 0, with a gradient of 0, where nothing counts."""
    divided = numerator / count.where(count > 0, 1.0)
    return torch.where(count > 0, divided, numerator * 0)
