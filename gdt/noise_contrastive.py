"""Noise-contrastive estimation: tell a key from noise, where the keys are drawn from a memory bank.

    h = exp s / (exp s + m·Z),   L = − Σ c·w·log h − Σ w·(1 − c)·log(1 − h)

with m the negatives of a row and Z the mean of exp s over what there is to compare with, a number
that is estimated once. It is the sigmoid objective with −log(m·Z) for its bias. Source: Wu et al.
2018, "Unsupervised Feature Learning via Non-Parametric Instance Discrimination", equations 6 to 8
(P = exp s / (n·Z) against noise of 1/n there); Tian et al. 2019, "Contrastive Multiview Coding",
appendix; Morgado et al. 2021, "Audio-Visual Instance Discrimination".

Legend: Q queries, K keys of each, the drawn negatives among them.
"""

import torch
from torch import Tensor

from gdt.loss_options import LossOptions
from gdt.objectives import fraction, numerator_and_count, sigmoid


def nce_loss(
    logits: Tensor,
    contrast: Tensor,
    weight: Tensor,
    mean_exp: Tensor | float,
    options: LossOptions = LossOptions("sigmoid"),  # noqa: B008 - frozen
) -> Tensor:
    """The loss of queries against keys that were drawn for each.

    Args:
        logits: s = ⟨q, k⟩/ρ, float [Q, K].
        contrast: c, [Q, K], from 0 to 1.
        weight: w, [Q, K]. A row's m is Σ w·(1 − c).
        mean_exp: Z > 0; see `mean_exponential`.
        options: with the objective "sigmoid"; says how rows are reduced.

    Returns:
        A scalar, at least float32: by default Σ over all pairs divided by Σ c·w.
    """
    if options.objective != "sigmoid":
        raise ValueError(f'NCE is a sigmoid objective; got objective = "{options.objective}"')
    dtype = torch.promote_types(logits.dtype, torch.float32)
    logits, contrast, weight = (t.to(dtype) for t in (logits, contrast, weight))
    num_negatives = (weight * (1 - contrast).clamp_min(0)).sum(1, keepdim=True)  # Q x 1
    noise = torch.as_tensor(mean_exp, dtype=dtype, device=logits.device).log()
    # Without negatives there is no noise to be told from; m = 1 keeps such a row finite.
    noise = noise + num_negatives.where(num_negatives > 0, 1.0).log()  # Q x 1
    return fraction(*numerator_and_count(sigmoid(logits - noise, contrast, weight), options))


@torch.no_grad()
def mean_exponential(logits: Tensor, weight: Tensor) -> Tensor:
    """Z: the mean of exp s over the pairs that weigh, a scalar; 1 where none does.

    Which pairs make Z is the method's choice: all of the first batch (instance discrimination), or
    its negatives (AVID; pass a weight that leaves positives out).
    """
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    total = weight.sum()
    summed = (weight * logits.masked_fill(weight == 0, 0).exp()).sum()
    return torch.where(total > 0, summed / total.where(total > 0, 1.0), 1.0)
