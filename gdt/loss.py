"""The contrastive loss of the paper, for any c and w.

    L = − Σ_{T,T'} c·w·log( exp(⟨f(T),f(T')⟩/ρ) / Σ_{T''} w(T,T'')·exp(⟨f(T),f(T'')⟩/ρ) ) / Σ c·w

SimCLR's NT-Xent, MoCo's InfoNCE with a queue, and the cross-modal losses are this formula under
other c and w. Source: Patrick et al., "Multi-modal Self-Supervision from Generalized Data
Transformations", equation 1. Dense: memory grows with Q × K.

Legend: Q queries, K keys, D embedding, M factors.
"""

import torch
import torch.distributed as dist
from torch import Tensor

from gdt.gather import gather_with_gradients, num_ranks
from gdt.plan import Plan


def contrastive_loss(
    queries: Tensor,
    keys: Tensor,
    contrast: Tensor,
    weight: Tensor,
    temperature: float,
    normalizer: Tensor | None = None,
) -> Tensor:
    """The loss of queries against keys.

    Args:
        queries: float [Q, D], L2-normalised.
        keys: float [K, D], L2-normalised.
        contrast: c, [Q, K]; entries above 0 are positives, several a row are welcome.
        weight: w, [Q, K]; 0 leaves a pair out.
        temperature: ρ > 0.
        normalizer: what to divide by instead of this block's Σ c·w, where the block is a part of
            a larger matrix.

    Returns:
        A scalar in the dtype of the queries, at least float32. 0, with a gradient of 0, where no
        pair is positive.
    """
    dtype = torch.promote_types(queries.dtype, torch.float32)
    logits = queries.to(dtype) @ keys.to(dtype).T / temperature  # Q x K
    contrast, weight = contrast.to(dtype), weight.to(dtype)
    # A row without any pair would give −inf − (−inf); it has no positive, so any constant serves.
    log_weight = torch.where((weight > 0).any(1, keepdim=True), weight.log(), 0.0)  # Q x K
    log_prob = logits - (logits + log_weight).logsumexp(1, keepdim=True)  # Q x K
    positives = contrast * weight
    if normalizer is None:
        normalizer = positives.sum()
    return -(positives * log_prob).sum() / normalizer.to(dtype).clamp_min(torch.finfo(dtype).tiny)


def plan_loss(plan: Plan, embeddings: Tensor, codes: Tensor, temperature: float) -> Tensor:
    """The loss of this rank's rows against the rows of all ranks, as the plan relates them.

    Each rank's value is scaled so that the mean over ranks, which is what data-parallel training
    takes of values and gradients, is the loss of the whole batch.

    Args:
        plan: gives c and w.
        embeddings: float [Q, D], L2-normalised; the rows of all modalities of this rank.
        codes: int64 [Q, M].
        temperature: ρ.
    """
    keys, key_codes = gather_with_gradients(embeddings, codes)  # K x D, K x M
    contrast = plan.contrast(codes, key_codes)  # Q x K
    weight = plan.weight(codes, key_codes)  # Q x K
    total = (contrast * weight).sum()
    if num_ranks() > 1:
        dist.all_reduce(total)
    return contrastive_loss(
        embeddings, keys, contrast, weight, temperature, normalizer=total / num_ranks()
    )
