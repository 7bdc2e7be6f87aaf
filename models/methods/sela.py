"""SeLa: predict labels that divide the data set evenly, and are as near predictions as that allows.

Asano et al., "Self-labelling via simultaneous clustering and representation learning", ICLR 2020,
arXiv:1911.05371, §3. Labels come of Sinkhorn and Knopp's algorithm over the whole data set, at
times that lie close together at first (quadratically). The authors label anew between two steps;
here it is the beginning of the next epoch, and so at most once an epoch.

Legend: B rows, N samples, H heads, K clusters.
"""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gdt import Batch, global_mean
from models.method import EmbedDataset, Losses, Method, MethodOptions, Needs, Setting
from models.parts.even_labels import even_shares, labelling_times
from models.towers import Towers


@dataclass(frozen=True)
class SeLaOptions(MethodOptions):
    """`[method]`: a prediction of labels that divide the data set evenly.

    Attributes:
        name: "sela".
        num_clusters: K; the paper takes 3000 for ten heads, or 1000 and more for one.
        num_heads: H, each with labels of its own.
        sharpness: λ, the power to which predictions are raised.
        num_labellings: how often labels are drawn up in the run.
        tolerance: Σ over samples of the relative change at which a labelling is done.
    """

    name: Literal["sela"] = "sela"
    num_clusters: int = 3000
    num_heads: int = 10
    sharpness: float = 25.0
    num_labellings: int = 100
    tolerance: float = 0.1

    def __post_init__(self) -> None:
        self._check_counts("num_clusters", "num_heads", "num_labellings")
        for key in ("sharpness", "tolerance"):
            self._check(key, 0 < getattr(self, key) < float("inf"), "above 0")


class SeLa(Method):
    """An encoder, a linear classifier for each head, and each head's labels of all samples."""

    options_type = SeLaOptions
    needs = Needs(positives=False, one_modality=True, why="SeLa labels the rows of one modality")
    labels: Tensor  # int64 H × N

    def __init__(self, options: SeLaOptions, setting: Setting) -> None:
        super().__init__(options, setting)
        self.options, num_samples = options, self.facts.num_samples
        self.check_fits("num_clusters", options.num_clusters)
        self.towers = Towers(setting.encoders, self.plan, lambda features_dim: nn.Identity())
        features_dim = self.towers.encoder(self.plan.modalities[0]).embedding_dim
        self.heads = nn.ModuleList(
            nn.Linear(features_dim, options.num_clusters) for _ in range(options.num_heads)
        )
        even = torch.arange(num_samples) % options.num_clusters
        labels = [even[torch.randperm(num_samples)] for _ in range(options.num_heads)]
        self.register_buffer("labels", torch.stack(labels))
        epochs = self.facts.num_steps / self.facts.steps_per_epoch
        self.times = labelling_times(epochs, options.num_labellings)

    @torch.no_grad()
    def before_epoch(self, epoch: int, embed_dataset: EmbedDataset) -> None:
        """Label all samples anew where it is time, by what the augmented ones are predicted as."""
        if not any(epoch - 1 < time <= epoch for time in self.times):
            return
        (features,) = embed_dataset(self.features, training=True).values()  # N × E
        embedded = features.any(dim=1)  # others keep their labels
        for number, head in enumerate(self.heads):
            logits = head(features[embedded])
            shares = sinkhorn_knopp(logits, self.options.sharpness, self.options.tolerance)
            self.labels[number, embedded] = shares.argmax(dim=1)

    def forward(self, batch: Batch) -> Losses:
        """Return the loss of a batch, a float32 scalar."""
        features, codes = self.towers.project(batch)  # B × E
        labels = self.labels[:, codes[:, self.plan.names.index("sample")]]  # H × B
        losses = [
            global_mean(F.cross_entropy(head(features).float(), label, reduction="none"))
            for head, label in zip(self.heads, labels, strict=True)
        ]
        return Losses(torch.stack(losses).mean())


def sinkhorn_knopp(logits: Tensor, sharpness: float, tolerance: float) -> Tensor:
    """Divide samples among clusters evenly, as near to their predictions as that allows.

    Args:
        logits: [N, K] of all samples.
        sharpness: λ.
        tolerance: see `even_shares`.

    Returns:
        float64 [N, K]: a sample's shares sum to 1/N, a cluster's to about 1/K.

    Raises:
        ValueError: predictions so sure that their powers vanish.
    """
    return even_shares(logits.double().log_softmax(dim=1) * sharpness, tolerance)
