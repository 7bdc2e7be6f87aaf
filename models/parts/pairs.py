"""Pairs: every sample has one row in each of two modalities; and the rows of all ranks beside them.

Legend: B pairs of this rank, K pairs of all ranks, D embedding, M factors.
"""

import torch
import torch.distributed as dist
from torch import Tensor

from gdt import Plan, gather_with_gradients, num_ranks


def check_pairs(plan: Plan, who: str) -> None:
    """Refuse a plan whose samples are not pairs.

    Args:
        plan: of the run.
        who: half a sentence for the message: "CLIP finds each picture its caption".

    Raises:
        ValueError: not two modalities, or more than one row of each.
    """
    if len(plan.modalities) != 2 or plan.num_transformations != 2:
        raise ValueError(
            f"{who}: plan.modality.values must name two modalities, such as "
            '["video", "text"], and no other factor may have several draws; got '
            f"{', '.join(plan.modalities)} and {plan.num_transformations} rows a sample"
        )


def in_pairs(plan: Plan, embeddings: Tensor, codes: Tensor) -> tuple[Tensor, Tensor]:
    """Part the rows of two modalities, so that row i of both is of one sample.

    Args:
        plan: says which column of the codes is the modality.
        embeddings: [2B, D].
        codes: int64 [2B, M].

    Returns:
        The first modality's rows and the second's, [B, D] each.

    Raises:
        ValueError: the modalities' rows are not of the same samples.
    """
    column = plan.names.index("modality")
    is_first = codes[:, column] == 0
    others = [number for number in range(codes.shape[1]) if number != column]
    if not torch.equal(codes[is_first][:, others], codes[~is_first][:, others]):
        raise ValueError(
            f"{' and '.join(plan.modalities)} have rows of other samples, or in another order: "
            "they cannot be paired"
        )
    return embeddings[is_first], embeddings[~is_first]


def of_all_ranks(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return the rows of all ranks, [K, D], with gradients, and where one's own are: int64 [B]."""
    places = torch.arange(len(rows), device=rows.device)
    if num_ranks() == 1:
        return rows, places
    names = torch.stack([torch.full_like(places, dist.get_rank()), places], dim=1)
    every, all_names = gather_with_gradients(rows, names)
    is_own = (names[:, None] == all_names).all(dim=2)  # B × K
    return every, is_own.int().argmax(dim=1)
