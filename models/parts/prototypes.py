"""Prototypes: learned unit vectors that embeddings are compared with, and their assignment.

Caron et al., "Unsupervised Learning of Visual Features by Contrasting Cluster Assignments" (SwAV),
2020, arXiv:2006.09882, §3.

Legend: B rows of this rank, D embedding, K prototypes.
"""

import torch
import torch.distributed as dist
from torch import Tensor, nn

from gdt.gather import num_ranks


class Prototypes(nn.Module):
    """K unit vectors; scores are their products with embeddings.

    Args:
        dim: D.
        count: K.
    """

    def __init__(self, dim: int, count: int) -> None:
        super().__init__()
        self.vectors = nn.Linear(dim, count, bias=False)

    @torch.no_grad()
    def normalize(self) -> None:
        """Bring every prototype to length 1."""
        weight = self.vectors.weight
        weight.copy_(nn.functional.normalize(weight, dim=1))

    def forward(self, embeddings: Tensor) -> Tensor:
        """Score embeddings [B, D] → [B, K]."""
        scores: Tensor = self.vectors(embeddings)
        return scores


@torch.no_grad()
def sinkhorn(scores: Tensor, epsilon: float, iterations: int) -> Tensor:
    """Assign rows to prototypes so that all prototypes are used alike (SwAV, appendix A).

    Alternately every prototype's share is brought to 1/K and every row's to 1/B, over the rows of
    all ranks; at the end each row's assignments sum to 1.

    Args:
        scores: [B, K].
        epsilon: strength of the entropy; the smaller, the sharper.
        iterations: rounds; SwAV takes 3.

    Returns:
        [B, K] in the dtype of the scores.

    Raises:
        ValueError: scores so large that their exponentials overflow.
    """
    assigned = torch.exp(scores / epsilon).T  # K × B
    if not torch.isfinite(assigned).all():
        raise ValueError(
            f"scores up to {float(scores.max()):.3g} with epsilon = {epsilon} overflow "
            f"{scores.dtype}: embeddings and prototypes must have length 1, or epsilon be greater"
        )
    num_prototypes, num_rows = assigned.shape
    total, rows = assigned.sum(), torch.tensor(float(num_rows), device=scores.device)
    _sum_over_ranks(total, rows)
    assigned = assigned / total
    for _ in range(iterations):
        of_prototype = assigned.sum(1, keepdim=True)
        _sum_over_ranks(of_prototype)
        assigned = assigned / of_prototype / num_prototypes
        assigned = assigned / assigned.sum(0, keepdim=True) / rows.to(assigned.dtype)
    return (assigned * rows.to(assigned.dtype)).T


def _sum_over_ranks(*tensors: Tensor) -> None:
    if num_ranks() > 1:
        for tensor in tensors:
            dist.all_reduce(tensor)
