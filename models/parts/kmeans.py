"""k-means over the embeddings of a data set, in blocks of rows, the same on every rank.

Legend: N rows, D embedding, K clusters.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

_NUMBERS_A_BLOCK = 1 << 25  # of distances, that are held at once
_SPLIT = 1 / 1024  # share of its length by which a centroid that is split moves


class Clusters(NamedTuple):
    """Centroids [K, D], the cluster of each row int64 [N], and its squared distance [N]."""

    centroids: Tensor
    assignments: Tensor
    squared_distances: Tensor


def first_rows(rows: Tensor, count: int) -> Tensor:
    """Draw `count` different rows to start from, [K, D], by torch's generator.

    Raises:
        ValueError: there are fewer rows.
    """
    if len(rows) < count:
        raise ValueError(
            f"{count} clusters of {len(rows)} embedded samples: lower method.num_prototypes or "
            "method.num_clusters, or train on more samples"
        )
    return rows[torch.randperm(len(rows))[:count].to(rows.device)]


@torch.no_grad()
def nearest(rows: Tensor, centroids: Tensor) -> Clusters:
    """Assign rows [N, D] to the nearest of centroids [K, D]."""
    assigned, distances = [], []
    for block in rows.split(max(1, _NUMBERS_A_BLOCK // len(centroids))):
        lengths = block.square().sum(1, keepdim=True)  # b × 1
        squared = lengths - 2 * block @ centroids.T + centroids.square().sum(1)  # b × K
        least = squared.min(dim=1)
        assigned.append(least.indices)
        distances.append(least.values.clamp_min(0))
    return Clusters(centroids, torch.cat(assigned), torch.cat(distances))


@torch.no_grad()
def kmeans(
    rows: Tensor,
    first: Tensor,
    iterations: int,
    *,
    spherical: bool = False,
    split_for_empty: bool = False,
) -> Clusters:
    """Move centroids to the means of their rows, again and again (Lloyd's algorithm).

    A cluster that no row is nearest to stays where it is, or takes half of another.

    Args:
        rows: [N, D]; of length 1 where spherical.
        first: centroids to start from, [K, D].
        iterations: of assignment and mean; at the end rows are assigned once more.
        spherical: bring centroids to length 1 after every move, and so go by the cosine.
        split_for_empty: see `split_clusters`.
    """
    centroids = first.clone()
    for _ in range(iterations):
        assignments = nearest(rows, centroids).assignments
        sums = torch.zeros_like(centroids).index_add_(0, assignments, rows)  # K × D
        sizes = assignments.bincount(minlength=len(centroids))[:, None]  # K × 1
        centroids = torch.where(sizes > 0, sums / sizes.clamp_min(1), centroids)
        if split_for_empty:
            centroids = split_clusters(centroids, sizes[:, 0])
        if spherical:
            centroids = F.normalize(centroids, dim=1)
    return nearest(rows, centroids)


def split_clusters(centroids: Tensor, sizes: Tensor) -> Tensor:
    """Give each empty cluster half of another: both centroids lie a little beside that one's.

    As FAISS has it, and Caron et al. 2018 (arXiv:1807.05520), §3.3. Which one is drawn by torch's
    generator, in proportion to its rows beyond the first, and has half of them from then on.

    Args:
        centroids: [K, D].
        sizes: int64 [K], rows of each.
    """
    centroids, rows = centroids.clone(), sizes.double().cpu()
    signs = torch.ones(centroids.shape[1]).to(centroids)
    signs[1::2] = -1
    for empty in (sizes == 0).nonzero()[:, 0].tolist():
        if not (rows > 1).any():
            break  # as many clusters as there are different rows
        split = int(torch.multinomial((rows - 1).clamp_min(0), 1))
        rows[empty] = rows[split] = rows[split] / 2
        centroids[empty] = centroids[split] * (1 + _SPLIT * signs)
        centroids[split] = centroids[split] * (1 - _SPLIT * signs)
    return centroids
