"""DeepCluster: predict the cluster that a sample is in, then cluster anew.

Caron et al., "Deep Clustering for Unsupervised Learning of Visual Features", ECCV 2018,
arXiv:1807.05520, §3. Each epoch begins with k-means of the whitened features of middle crops, from
other centroids than the last; the classifier of clusters starts anew with it, and has an update
rule of its own, without momentum. The authors draw an epoch's samples so that each cluster comes
equally often; here an epoch is every sample once, and rows are weighted so that each cluster
counts the same.

Legend: B rows, N samples, K clusters, E features.
"""

from dataclasses import dataclass
from typing import Final, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gdt import Batch, global_mean
from models.method import (
    EmbedDataset,
    Losses,
    Method,
    MethodOptions,
    Needs,
    ParameterGroup,
    Setting,
)
from models.parts.heads import deepcluster_head
from models.parts.kmeans import first_rows, kmeans
from models.parts.whitening import whitened
from models.towers import Towers

NOT_ASSIGNED: Final = -100  # a sample that could not be embedded
_INITIAL_SPREAD: Final = 0.01  # of the classifier's weights


@dataclass(frozen=True)
class DeepClusterOptions(MethodOptions):
    """`[method]`: a prediction of the cluster that a sample is in.

    Attributes:
        name: "deepcluster".
        hidden_dim: width of the head's two layers, as AlexNet's; 0 for no head.
        dropout: probability with which the head drops the inputs of each of its layers.
        num_clusters: K; the paper takes 10000 on ImageNet, ten for each class.
        pca_dim: principal components of the features that are clustered, whitened.
        kmeans_iterations: of each clustering.
        classifier_learning_rate: of the classifier of clusters, constant.
        classifier_weight_decay: of the classifier.
    """

    name: Literal["deepcluster"] = "deepcluster"
    hidden_dim: int = 4096
    dropout: float = 0.5
    num_clusters: int = 10000
    pca_dim: int = 256
    kmeans_iterations: int = 20
    classifier_learning_rate: float = 0.05
    classifier_weight_decay: float = 1e-5

    def __post_init__(self) -> None:
        self._check_counts("pca_dim", "kmeans_iterations")
        self._check("num_clusters", self.num_clusters >= 2, "a count, at least 2")
        self._check_shares("dropout")
        for key in ("hidden_dim", "classifier_learning_rate", "classifier_weight_decay"):
            self._check(key, getattr(self, key) >= 0, "at least 0")


class DeepCluster(Method):
    """An encoder, a head, a classifier of clusters, and the cluster of every sample."""

    options_type = DeepClusterOptions
    needs = Needs(
        positives=False, one_modality=True, why="DeepCluster clusters the rows of one modality"
    )
    assignments: Tensor  # int64 N
    weights: Tensor  # N: what a row of the sample counts, 1 in the mean

    def __init__(self, options: DeepClusterOptions, setting: Setting) -> None:
        super().__init__(options, setting)
        self.options, num_samples = options, self.facts.num_samples
        self.check_fits("num_clusters", options.num_clusters)
        width = options.hidden_dim
        self.towers = Towers(
            setting.encoders,
            self.plan,
            lambda dim: deepcluster_head(dim, width, options.dropout) if width else nn.Identity(),
        )
        (modality,) = self.plan.modalities
        features_dim = width or self.towers.encoder(modality).embedding_dim
        if options.pca_dim > features_dim:
            raise ValueError(
                f"method.pca_dim = {options.pca_dim} components of {features_dim} features: lower "
                "it, or raise method.hidden_dim"
            )
        self.classifier = nn.Linear(features_dim, options.num_clusters)
        self._reset_classifier()
        self.register_buffer("assignments", torch.full((num_samples,), NOT_ASSIGNED))
        self.register_buffer("weights", torch.zeros(num_samples))

    @torch.no_grad()
    def before_epoch(self, epoch: int, embed_dataset: EmbedDataset) -> None:
        """Cluster what middle crops give, and let the classifier begin anew."""
        options = self.options
        (features,) = embed_dataset(self.towers.projection).values()  # N × E
        embedded = features.any(dim=1)
        rows = whitened(features[embedded], options.pca_dim)
        first = first_rows(rows, options.num_clusters)
        clusters = kmeans(rows, first, options.kmeans_iterations, split_for_empty=True)
        self.assignments.fill_(NOT_ASSIGNED)
        self.assignments[embedded] = clusters.assignments
        self.weights.zero_()
        self.weights[embedded] = balancing_weights(clusters.assignments).to(self.weights)
        self._reset_classifier()

    def forward(self, batch: Batch) -> Losses:
        """Return the loss of a batch, a float32 scalar."""
        features, codes = self.towers.project(batch)  # B × E
        samples = codes[:, self.plan.names.index("sample")]
        targets = self.assignments[samples]
        logits = self.classifier(F.relu(features)).float()  # B × K
        losses = F.cross_entropy(logits, targets, ignore_index=NOT_ASSIGNED, reduction="none")
        assigned = targets != NOT_ASSIGNED
        return Losses(global_mean((losses * self.weights[samples])[assigned]))

    def parameter_groups(self) -> list[ParameterGroup]:
        """Leave the classifier to `after_step`; the optimizer only looks after its gradients."""
        own = list(self.classifier.parameters())
        others = [p for p in self.parameters() if not any(p is mine for mine in own)]
        return [ParameterGroup(others), ParameterGroup(own, rate_scale=0.0)]

    @torch.no_grad()
    def after_step(self, step: int) -> None:
        """Update the classifier, without momentum and at its own learning rate."""
        options = self.options
        for parameter in self.classifier.parameters():
            if parameter.grad is not None:
                moved = parameter.grad.add(parameter, alpha=options.classifier_weight_decay)
                is_finite = torch.isfinite(moved).all()  # float16 overflows until its scale fits
                moved = torch.where(is_finite, moved, 0.0)
                parameter.sub_(moved, alpha=options.classifier_learning_rate)

    @torch.no_grad()
    def _reset_classifier(self) -> None:
        nn.init.normal_(self.classifier.weight, std=_INITIAL_SPREAD)
        nn.init.zeros_(self.classifier.bias)


def balancing_weights(assignments: Tensor) -> Tensor:
    """Return weights by which every cluster that is not empty counts the same, of mean 1: [N].

    Args:
        assignments: int64 [N].
    """
    sizes = assignments.bincount()
    return len(assignments) / (sizes > 0).sum() / sizes[assignments]
