"""DeepCluster-v2: predict the cluster that a sample was in at the beginning of the epoch.

Caron et al., "Unsupervised Learning of Visual Features by Contrasting Cluster Assignments", 2020,
arXiv:2006.09882, appendix (DeepCluster-v2). As in the authors' code each epoch begins with
spherical k-means of the embeddings that the last one gave, one clustering for each head, by turns
of the first views; centroids are the head's prototypes and get no gradient.

Legend: R rows of all views, V assigned views, N samples, H clusterings, K prototypes, D embedding.
"""

from dataclasses import dataclass
from typing import Final, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gdt import Batch, gather_with_gradients, global_mean
from models.method import EmbedDataset, Losses, Method, MethodOptions, Needs, Setting
from models.parts import Prototypes
from models.parts.heads import swav_head
from models.parts.kmeans import first_rows, kmeans
from models.towers import Towers

NOT_ASSIGNED: Final = -100  # a sample that no row was seen of


@dataclass(frozen=True)
class DeepClusterV2Options(MethodOptions):
    """`[method]`: a prediction of the clusters that the epoch began with.

    Attributes:
        name: "deepcluster_v2".
        hidden_dim: width of the projection head's hidden layer.
        embedding_dim: length of the L2-normalised embedding.
        num_prototypes: K of each of the H clusterings; the paper: 3000 thrice on ImageNet.
        temperature: of the predictions.
        assigned_views: views, from the first, whose embeddings are kept and clustered.
        kmeans_iterations: of each clustering.
    """

    name: Literal["deepcluster_v2"] = "deepcluster_v2"
    hidden_dim: int = 2048
    embedding_dim: int = 128
    num_prototypes: tuple[int, ...] = (3000, 3000, 3000)
    temperature: float = 0.1
    assigned_views: int = 2
    kmeans_iterations: int = 10

    def __post_init__(self) -> None:
        self._check_counts("hidden_dim", "embedding_dim", "assigned_views", "kmeans_iterations")
        ok = min(self.num_prototypes, default=0) >= 1
        self._check("num_prototypes", ok, "counts, each at least 1, one for each clustering")
        self._check_temperatures("temperature")


class DeepClusterV2(Method):
    """Encoder and head, the last embeddings of every sample, and prototypes with assignments."""

    options_type = DeepClusterV2Options
    needs = Needs(2, one_modality=True, why="DeepCluster-v2 predicts one cluster from all views")
    bank: Tensor  # V × N × D, zeros where a sample was not seen
    assignments: Tensor  # int64 H × N

    def __init__(self, options: DeepClusterV2Options, setting: Setting) -> None:
        super().__init__(options, setting)
        num_views = self.plan.draws("augmentation")
        if options.assigned_views > num_views:
            raise ValueError(
                f"method.assigned_views = {options.assigned_views}, and the plan draws "
                f"{num_views} views: raise plan.augmentation.draws, or assign fewer"
            )
        num_samples = self.facts.num_samples
        self.check_fits("num_prototypes", max(options.num_prototypes))
        self.options, dim = options, options.embedding_dim
        self.towers = Towers(
            setting.encoders,
            self.plan,
            lambda features_dim: swav_head(features_dim, options.hidden_dim, dim),
        )
        self.register_buffer("bank", torch.zeros(options.assigned_views, num_samples, dim))
        self.prototypes = nn.ModuleList(
            Prototypes(dim, count).requires_grad_(False) for count in options.num_prototypes
        )
        assignments = torch.full((len(options.num_prototypes), num_samples), NOT_ASSIGNED)
        self.register_buffer("assignments", assignments)

    def before_epoch(self, epoch: int, embed_dataset: EmbedDataset) -> None:
        """Cluster the embeddings of the last epoch; the first begins with a pass over all."""
        if not self.bank.any():
            (embeddings,) = embed_dataset(self.embed, training=True).values()  # N × D
            self.bank.copy_(embeddings.expand_as(self.bank))
        for number in range(len(self.prototypes)):
            self._cluster(number)

    def forward(self, batch: Batch) -> Losses:
        """Return the loss of a batch, a float32 scalar; in training also keep its embeddings."""
        embeddings, codes = self.towers(batch)  # R × D, R × M
        targets = self.assignments[:, codes[:, self.plan.names.index("sample")]]  # H × R
        with torch.autocast(embeddings.device.type, enabled=False):
            losses = [
                self._predict(prototypes(embeddings), target)
                for prototypes, target in zip(self.prototypes, targets, strict=True)
            ]
        if self.training:
            self._keep(embeddings, codes)
        return Losses(torch.stack(losses).mean())

    def _predict(self, scores: Tensor, targets: Tensor) -> Tensor:
        logits = scores / self.options.temperature  # R × K
        rows = F.cross_entropy(logits, targets, ignore_index=NOT_ASSIGNED, reduction="none")
        return global_mean(rows[targets != NOT_ASSIGNED])

    @torch.no_grad()
    def _keep(self, embeddings: Tensor, codes: Tensor) -> None:
        embeddings, codes = gather_with_gradients(embeddings, codes)
        view_of = codes[:, self.plan.names.index("augmentation")]
        samples = codes[:, self.plan.names.index("sample")]
        kept = view_of < len(self.bank)
        self.bank[view_of[kept], samples[kept]] = embeddings[kept].to(self.bank)

    @torch.no_grad()
    def _cluster(self, number: int) -> None:
        rows = self.bank[number % len(self.bank)]  # N × D
        seen = rows.any(dim=1)
        prototypes = cast(Prototypes, self.prototypes[number])
        first = first_rows(rows[seen], self.options.num_prototypes[number])
        clusters = kmeans(rows[seen], first, self.options.kmeans_iterations, spherical=True)
        prototypes.vectors.weight.copy_(clusters.centroids)
        self.assignments[number] = NOT_ASSIGNED
        self.assignments[number, seen] = clusters.assignments
