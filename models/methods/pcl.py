"""PCL: MoCo, and besides it each query near the centre of its cluster, as dense as that one is.

Li et al., "Prototypical Contrastive Learning of Unsupervised Representations", ICLR 2021,
arXiv:2005.04966, §3. Each epoch begins with k-means of what the momentum encoder says of middle
crops; the temperature of a prototype is its cluster's concentration φ, equation 12. As in the
authors' code a prototype that two samples share is the negative of each once. The authors run
k-means five times and take the best; here it runs once.

Legend: B queries of this rank, P samples of all ranks, N of the data set, K prototypes, D of rows.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gdt import Batch, gather_with_gradients, global_mean
from models.method import EmbedDataset, Losses, Needs, Setting
from models.methods.moco import MoCo, MoCoOptions
from models.parts.kmeans import Clusters, first_rows, kmeans

NOT_ASSIGNED: Final = -1  # a sample that could not be embedded


@dataclass(frozen=True)
class PCLOptions(MoCoOptions):
    """`[method]`: MoCo together with prototypes of clusters.

    Attributes:
        name: "pcl".
        temperature: of the keys, and the mean of the prototypes' own.
        num_prototypes: K of each clustering; the paper takes 25000, 50000 and 100000.
        negative_prototypes: of other clusters, drawn for a batch; all where there are fewer.
        from_epoch: the epoch with which clustering begins; before it there is MoCo alone.
        kmeans_iterations: of each clustering.
    """

    name: Literal["pcl"] = "pcl"  # type: ignore[assignment]
    hidden_dim: int = 2048
    embedding_dim: int = 128
    temperature: float = 0.2
    queue_size: int = 16384
    num_prototypes: tuple[int, ...] = (25000, 50000, 100000)
    negative_prototypes: int = 16384
    from_epoch: int = 20
    kmeans_iterations: int = 20

    def __post_init__(self) -> None:
        super().__post_init__()
        ok = min(self.num_prototypes, default=0) >= 2
        self._check("num_prototypes", ok, "counts, each at least 2, one for each clustering")
        self._check_counts("negative_prototypes", "kmeans_iterations")
        self._check("from_epoch", self.from_epoch >= 0, "at least 0")


class Clustering(nn.Module):
    """One clustering of the data set: prototypes, their concentrations, and whose they are."""

    prototypes: Tensor  # K × D, of length 1
    concentrations: Tensor  # K
    assignments: Tensor  # int64 N

    def __init__(self, count: int, dim: int, num_samples: int) -> None:
        super().__init__()
        self.register_buffer("prototypes", torch.zeros(count, dim))
        self.register_buffer("concentrations", torch.ones(count))
        self.register_buffer("assignments", torch.full((num_samples,), NOT_ASSIGNED))

    def assign(self, embedded: Tensor, clusters: Clusters, temperature: float) -> None:
        """Take over the clusters of the samples that a mask [N] says were embedded."""
        self.prototypes.copy_(F.normalize(clusters.centroids, dim=1))
        self.concentrations.copy_(concentrations(clusters, temperature))
        self.assignments.fill_(NOT_ASSIGNED)
        self.assignments[embedded] = clusters.assignments

    def loss(self, queries: Tensor, samples: Tensor, num_negatives: int) -> Tensor:
        """Return a share of the mean cross-entropy of queries [B, D] of samples [B]."""
        _, of_all = gather_with_gradients(queries.detach(), self.assignments[samples][:, None])
        positives = of_all[:, 0][of_all[:, 0] != NOT_ASSIGNED]  # at most P, a prototype may recur
        is_other = torch.ones(len(self.prototypes), dtype=torch.bool)
        is_other[positives.cpu()] = False
        others = is_other.nonzero()[:, 0]
        others = others[torch.randperm(len(others))[:num_negatives]].to(samples.device)
        candidates = torch.cat([positives, others])
        own = self.assignments[samples]
        is_assigned = own != NOT_ASSIGNED
        queries, own = queries[is_assigned], own[is_assigned]
        logits = queries @ self._scaled(candidates).T  # B × candidates
        return global_mean(logits.logsumexp(dim=1) - (queries * self._scaled(own)).sum(dim=1))

    def _scaled(self, rows: Tensor) -> Tensor:
        return self.prototypes[rows] / self.concentrations[rows, None]


class PCL(MoCo):
    """MoCo with clusterings of the data set."""

    options_type = PCLOptions
    needs = Needs(2, 2, one_modality=True, why="PCL compares a query view with a key view")

    def __init__(self, options: PCLOptions, setting: Setting) -> None:
        super().__init__(options, setting)
        num_samples = self.facts.num_samples
        self.check_fits("num_prototypes", max(options.num_prototypes))
        self.options = options
        self.clusterings = nn.ModuleList(
            Clustering(count, options.embedding_dim, num_samples)
            for count in options.num_prototypes
        )

    @torch.no_grad()
    def before_epoch(self, epoch: int, embed_dataset: EmbedDataset) -> None:
        """Cluster what the momentum encoder says of middle crops."""
        options = self.options
        if epoch < options.from_epoch:
            return
        (rows,) = embed_dataset(self.momentum.network.embed).values()  # N × D
        embedded = rows.any(dim=1)
        rows = rows[embedded]
        for clustering, count in zip(self._clusterings(), options.num_prototypes, strict=True):
            clusters = kmeans(rows, first_rows(rows, count), options.kmeans_iterations)
            clustering.assign(embedded, clusters, options.temperature)

    def forward(self, batch: Batch) -> Losses:
        """Return the loss of a batch, a float32 scalar; in training also move encoder and queue."""
        instance, queries, codes = self.compare(batch)
        if not all((c.assignments != NOT_ASSIGNED).any() for c in self._clusterings()):
            return Losses(instance, {"instance": instance})
        samples = codes[:, self.plan.names.index("sample")]
        with torch.autocast(queries.device.type, enabled=False):
            losses = [
                clustering.loss(queries, samples, self.options.negative_prototypes)
                for clustering in self._clusterings()
            ]
        prototype = torch.stack(losses).mean()
        return Losses(instance + prototype, {"instance": instance, "prototype": prototype})

    def _clusterings(self) -> Iterable[Clustering]:
        return cast(Iterable[Clustering], self.clusterings)


def concentrations(clusters: Clusters, temperature: float, alpha: float = 10) -> Tensor:
    """Return φ of each cluster, [K]: the mean distance to its centroid over ln(size + α).

    A cluster of one row or none has the greatest of the others. All are then brought between their
    10th and 90th percentile, and to a mean that is the temperature.
    """
    count = len(clusters.centroids)
    distances = clusters.squared_distances.sqrt()
    sizes = clusters.assignments.bincount(minlength=count)  # K
    summed = torch.zeros(count).to(distances).index_add_(0, clusters.assignments, distances)
    found = summed / sizes.clamp_min(1) / (sizes + alpha).to(distances).log()
    found = torch.where(sizes > 1, found, found[sizes > 1].max() if (sizes > 1).any() else 1.0)
    low, high = (torch.quantile(found, share) for share in (0.1, 0.9))
    found = found.clamp(low, high)
    return found * temperature / found.mean().clamp_min(1e-12)
