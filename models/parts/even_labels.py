"""Labels of a whole data set that divide it evenly, and when in a run they are drawn up.

Asano et al., "Self-labelling via simultaneous clustering and representation learning", ICLR 2020,
arXiv:1911.05371, §3.1: Sinkhorn and Knopp's algorithm, in double precision.

Legend: N samples, K clusters.
"""

import torch
from torch import Tensor

_MOST_ROUNDS = 2000


def labelling_times(epochs: float, count: int) -> list[float]:
    """Return when to label, in epochs: quadratically spaced from 0 to just behind the run's end."""
    shares = torch.linspace(0, 1, count, dtype=torch.float64)
    return ((epochs + 1.01) * shares.square()).tolist()


@torch.no_grad()
def even_shares(scores: Tensor, tolerance: float, sizes: Tensor | None = None) -> Tensor:
    """Divide samples among clusters, as near to their scores as the clusters' sizes allow.

    Args:
        scores: float64 [N, K], logarithms of what is divided: λ · log p, say.
        tolerance: of Σ |c / c' − 1| over samples, which is looked at every tenth round.
        sizes: [K], what the clusters' shares are proportional to; alike by default.

    Returns:
        float64 [N, K]: a sample's shares sum to 1/N, a cluster's to about its size's.

    Raises:
        ValueError: scores so low that their exponentials vanish.
    """
    shares = scores.exp()
    num_samples, num_clusters = shares.shape
    wanted = shares.new_full((num_clusters,), 1 / num_clusters)
    if sizes is not None:
        wanted = (sizes / sizes.sum()).to(shares)
    columns = shares.new_full((num_samples,), 1 / num_samples)
    change, rounds = float("inf"), 0
    while change > tolerance and rounds < _MOST_ROUNDS:
        rows = wanted / (columns @ shares)  # K
        new = 1 / num_samples / (shares @ rows)  # N
        if rounds % 10 == 0:
            change = float((columns / new - 1).abs().sum())
        columns, rounds = new, rounds + 1
    if not (torch.isfinite(rows).all() and torch.isfinite(columns).all()):
        raise ValueError(
            "a cluster or a sample has no share left of predictions to such a power: lower "
            "method.sharpness"
        )
    return columns[:, None] * shares * rows
