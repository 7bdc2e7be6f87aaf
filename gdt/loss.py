"""The contrastive loss of the paper, for any c and w.

    L = − Σ_{T,T'} c·w·log( exp(⟨f(T),f(T')⟩/ρ) / Σ_{T''} w(T,T'')·exp(⟨f(T),f(T'')⟩/ρ) ) / Σ c·w

SimCLR's NT-Xent, MoCo's InfoNCE with a queue, and the cross-modal losses are this formula under
other c and w; `LossOptions` names its relatives. Source: Patrick et al., "Multi-modal
Self-Supervision from Generalized Data Transformations", equation 1.

Dense, memory grows with Q × K; `plan_loss` takes tiles of the matrix where it is large.

Legend: Q queries, K keys, D embedding, M factors.
"""

from typing import Final, Literal

import torch
import torch.distributed as dist
from torch import Tensor

from gdt.gather import gather_with_gradients, num_ranks
from gdt.loss_options import LossOptions
from gdt.objectives import RowLosses, fraction, numerator_and_count, row_losses
from gdt.plan import Plan
from gdt.reference import reference_loss
from gdt.tiled import tiled_row_losses

PAPER: Final = LossOptions()

#: Entries of the matrix of pairs from which tiles are the faster way (benchmarks/loss.py).
TILED_FROM: Final = 1024 * 1024


def normalize(embeddings: Tensor, eps: float = 1e-6) -> Tensor:
    """Rows of length 1; a row shorter than `eps` becomes 0, with a gradient of 0.

    Dividing by a length of nothing would make either NaN or a gradient of any size of a dead
    encoder's output.

    Args:
        embeddings: float [N, D].
        eps: shortest length that has a direction.

    Returns:
        [N, D], at least float32.
    """
    embeddings = embeddings.to(torch.promote_types(embeddings.dtype, torch.float32))
    length = torch.linalg.vector_norm(embeddings, dim=1, keepdim=True)  # N x 1
    return torch.where(length > eps, embeddings / length.clamp_min(eps), 0.0)


def contrastive_loss(
    queries: Tensor,
    keys: Tensor,
    contrast: Tensor,
    weight: Tensor,
    temperature: float | Tensor,
    normalizer: Tensor | None = None,
    options: LossOptions = PAPER,
    bias: float | Tensor | None = None,
) -> Tensor:
    """The loss of queries against keys.

    Args:
        queries: float [Q, D], L2-normalised.
        keys: float [K, D], L2-normalised.
        contrast: c, [Q, K]; entries above 0 are positives, several a row are welcome.
        weight: w, [Q, K]; 0 leaves a pair out.
        temperature: ρ > 0; a scalar tensor learns.
        normalizer: what to divide by instead of this block's Σ c·w (or number of rows with a
            positive, if rows are reduced first), where the block is a part of a larger matrix.
        options: another objective or reduction; not "reference", which takes a plan.
        bias: of the sigmoid, added to logits; a scalar tensor learns.

    Returns:
        A scalar in the dtype of the queries, at least float32. 0, with a gradient of 0, where no
        pair is positive.
    """
    check_objective(options, bias)
    if options.objective == "reference":
        raise ValueError('loss: objective = "reference" follows from a plan: call plan_loss')
    dtype = torch.promote_types(queries.dtype, torch.float32)
    keys = keys.detach() if options.stop_gradient_keys else keys
    logits = queries.to(dtype) @ keys.to(dtype).T / temperature  # Q x K
    logits = logits if bias is None else logits + bias
    rows = row_losses(logits, contrast.to(dtype), weight.to(dtype), options)
    numerator, count = numerator_and_count(rows, options)
    return fraction(numerator, count if normalizer is None else normalizer.to(dtype))


def plan_loss(
    plan: Plan,
    embeddings: Tensor,
    codes: Tensor,
    temperature: float | Tensor,
    options: LossOptions = PAPER,
    bias: float | Tensor | None = None,
    *,
    tiled: bool | Literal["triton"] | None = None,
) -> Tensor:
    """The loss of this rank's rows against the rows of all ranks, as the plan relates them.

    Each rank's value is scaled so that the mean over ranks, which is what data-parallel training
    takes of values and gradients, is the loss of the whole batch. (The objective "reference" alone
    depends on which rank a row is on.)

    Args:
        plan: gives c and w.
        embeddings: float [Q, D], L2-normalised; the rows of all modalities of this rank.
        codes: int64 [Q, M].
        temperature: ρ; a scalar tensor learns.
        options: another objective or reduction.
        bias: of the sigmoid, added to logits; a scalar tensor learns.
        tiled: whether to go over the matrix of pairs in tiles, in memory that grows with Q + K;
            by default where it has `TILED_FROM` entries or more; "triton" does it in a kernel of
            a GPU (`gdt.tiled_triton`). The values are the same.
    """
    check_objective(options, bias)
    if options.objective == "reference":
        return _reference(plan, embeddings, codes, temperature)
    own = embeddings.detach() if options.stop_gradient_keys else embeddings
    keys, key_codes = gather_with_gradients(own, codes)  # K x D, K x M
    dtype = torch.promote_types(embeddings.dtype, torch.float32)
    queries, keys = embeddings.to(dtype) / temperature, keys.to(dtype)
    if bias is not None:  # s + b is the product of one more entry
        ones = queries.new_ones(1)
        queries = torch.cat([queries, (ones * bias).expand(len(queries), 1)], dim=1)
        keys = torch.cat([keys, ones.expand(len(keys), 1)], dim=1)
    if len(queries) * len(keys) >= TILED_FROM if tiled is None else tiled:
        rows = tiled_row_losses(
            plan, queries, codes, keys, key_codes, options, triton=tiled == "triton"
        )
    else:
        contrast, weight = plan.contrast(codes, key_codes), plan.weight(codes, key_codes)
        rows = row_losses(queries @ keys.T, contrast.to(dtype), weight.to(dtype), options)
    return _mean_over_ranks(rows, options)


def check_objective(options: LossOptions, bias: float | Tensor | None) -> None:
    """Refuse a bias where it would cancel."""
    if bias is not None and options.objective != "sigmoid":
        raise ValueError(
            f'loss: a bias is of objective = "sigmoid"; it cancels in "{options.objective}"'
        )


def _mean_over_ranks(rows: RowLosses, options: LossOptions) -> Tensor:
    """This rank's share of the whole batch's loss, times the number of ranks."""
    numerator, count = numerator_and_count(rows, options)
    if num_ranks() > 1:
        count = count.clone()
        dist.all_reduce(count)
    return fraction(numerator, count / num_ranks())


def _reference(
    plan: Plan, embeddings: Tensor, codes: Tensor, temperature: float | Tensor
) -> Tensor:
    rank = dist.get_rank() if num_ranks() > 1 else 0
    own_rank = codes.new_full((len(codes), 1), rank)
    keys, ranked = gather_with_gradients(embeddings.detach(), torch.cat([codes, own_rank], dim=1))
    key_codes, key_ranks = ranked[:, :-1], ranked[:, -1]  # K x M, K
    return reference_loss(plan, embeddings, codes, keys, key_codes, key_ranks == rank, temperature)
