"""Embeddings and codes of all ranks, with correct gradients.

Legend: B rows of this rank (ranks may differ), K rows of all ranks, D embedding, M factors.
"""

import torch
import torch.distributed as dist
import torch.distributed.nn.functional as dist_nn
from torch import Tensor


def num_ranks() -> int:
    """How many processes train together; 1 without torch.distributed."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def gather_with_gradients(embeddings: Tensor, codes: Tensor) -> tuple[Tensor, Tensor]:
    """The rows of all ranks, rank by rank, the same on every rank.

    The gradient of a rank's rows is the sum of what all ranks' losses say of them. Ranks may hold
    different numbers of rows (a skipped sample leaves its place empty), also none.

    Args:
        embeddings: float [B, D].
        codes: int64 [B, M].

    Returns:
        float [K, D] and int64 [K, M].
    """
    if num_ranks() == 1:
        return embeddings, codes
    sizes = [torch.zeros(1, dtype=torch.int64, device=codes.device) for _ in range(num_ranks())]
    dist.all_gather(sizes, torch.tensor([len(codes)], device=codes.device))
    rows = [int(size) for size in sizes]
    padding = max(rows) - len(codes)
    padded = torch.nn.functional.pad(embeddings, (0, 0, 0, padding))
    padded_codes = torch.nn.functional.pad(codes, (0, 0, 0, padding))
    all_embeddings = dist_nn.all_gather(padded)
    all_codes = [torch.empty_like(padded_codes) for _ in rows]
    dist.all_gather(all_codes, padded_codes)
    return (
        torch.cat([part[:size] for part, size in zip(all_embeddings, rows, strict=True)]),
        torch.cat([part[:size] for part, size in zip(all_codes, rows, strict=True)]),
    )


def sum_over_ranks(values: Tensor) -> Tensor:
    """Sum a tensor over all ranks, on every rank, with a gradient through each rank's part.

    A loss that every rank computes from such sums is the loss of the whole batch, and the mean over
    ranks of its gradients is its gradient. (A plain all_reduce loses the other ranks' part: then it
    is 1/W of that.)

    Args:
        values: float, of one shape on all ranks.
    """
    if num_ranks() == 1:
        return values
    summed: Tensor = dist_nn.all_reduce(values)
    return summed


def global_mean(values: Tensor) -> Tensor:
    """Average over the rows of all ranks, as a share of it: its mean over ranks is the whole mean.

    Args:
        values: float [B], one a row of this rank.

    Returns:
        A scalar; 0, with a gradient of 0, where no rank has a row.
    """
    total = torch.tensor(float(len(values)), dtype=values.dtype, device=values.device)
    if num_ranks() > 1:
        dist.all_reduce(total)
    return values.sum() * num_ranks() / total.clamp_min(1)
