"""SeLaVi: label clips so that sound and picture agree, in clusters of given sizes; predict labels.

Asano et al., "Labelling unlabelled videos from scratch with multi-modal self-supervision", NeurIPS
2020, arXiv:2006.13662, §3. What is divided among clusters is the product of both modalities'
predictions. Each of several heads has labels of its own; before the first ones the sound's clusters
are put in the order of the picture's, since both start at random.

Legend: B rows, N samples, H heads, K clusters, E features.
"""

from dataclasses import dataclass
from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gdt import Batch, global_mean
from models.method import EmbedDataset, Losses, Method, MethodOptions, Setting
from models.parts.even_labels import even_shares, labelling_times
from models.parts.heads import mlp_head
from models.parts.pairs import check_pairs
from models.towers import Towers, at_least_float32


@dataclass(frozen=True)
class SeLaViOptions(MethodOptions):
    """`[method]`: a prediction, by sound and by picture, of labels that both agree about.

    Attributes:
        name: "selavi".
        num_clusters: K; the paper takes as many as VGG-Sound has classes, 309.
        num_heads: H, each with labels of its own.
        hidden_dim: width of a head's hidden layer.
        sharpness: λ, the power to which the geometric mean of both predictions is raised.
        sizes: of the clusters: "even", or "gaussian": drawn for each labelling, one part in ten
            around their mean.
        num_labellings: how often labels are drawn up in the run.
        tolerance: Σ over samples of the relative change at which a labelling is done.
    """

    name: Literal["selavi"] = "selavi"
    num_clusters: int = 309
    num_heads: int = 10
    hidden_dim: int = 512
    sharpness: float = 20.0
    sizes: Literal["even", "gaussian"] = "even"
    num_labellings: int = 100
    tolerance: float = 0.1

    def __post_init__(self) -> None:
        self._check_counts("num_clusters", "num_heads", "hidden_dim", "num_labellings")
        for key in ("sharpness", "tolerance"):
            self._check(key, 0 < getattr(self, key) < float("inf"), "above 0")


class SeLaVi(Method):
    """Two encoders, H classifiers for each, and each head's labels of all samples.

    Raises:
        ValueError: the plan does not give each sample one row in each of two modalities, or there
            are more clusters than samples.
    """

    options_type = SeLaViOptions
    labels: Tensor  # int64 H × N
    is_labelled: Tensor  # bool: whether the heads are in one order

    def __init__(self, options: SeLaViOptions, setting: Setting) -> None:
        super().__init__(options, setting)
        check_pairs(self.plan, "SeLaVi labels clips by two modalities of each")
        self.options, num_samples = options, self.facts.num_samples
        if options.num_clusters > num_samples:
            raise ValueError(
                f"method.num_clusters = {options.num_clusters} for {num_samples} samples: lower "
                "it, or train on more samples"
            )
        self.towers = Towers(setting.encoders, self.plan, lambda features_dim: nn.Identity())
        self.heads = nn.ModuleDict(
            {
                modality: nn.ModuleList(
                    mlp_head(
                        self.towers.encoder(modality).embedding_dim,
                        options.hidden_dim,
                        options.num_clusters,
                    )
                    for _ in range(options.num_heads)
                )
                for modality in self.plan.modalities
            }
        )
        even = torch.arange(num_samples) % options.num_clusters
        labels = [even[torch.randperm(num_samples)] for _ in range(options.num_heads)]
        self.register_buffer("labels", torch.stack(labels))
        self.register_buffer("is_labelled", torch.tensor(False))
        epochs = self.facts.num_steps / self.facts.steps_per_epoch
        self.times = labelling_times(epochs, options.num_labellings)

    @torch.no_grad()
    def before_epoch(self, epoch: int, embed_dataset: EmbedDataset) -> None:
        """Label all samples anew where it is time, by what the augmented ones are predicted as."""
        if not any(epoch - 1 < time <= epoch for time in self.times):
            return
        found = embed_dataset(self.features, training=True)  # N × E of each modality
        first, second = (found[modality] for modality in self.plan.modalities)
        embedded = first.any(dim=1) & second.any(dim=1)  # others keep their labels
        for number in range(self.options.num_heads):
            one, other = self._heads(number)
            logits = one(first[embedded]), other(second[embedded])
            if not self.is_labelled:
                order = matching(*(rows.softmax(dim=1) for rows in logits))
                reorder(cast(nn.Sequential, other), order)
                logits = logits[0], logits[1][:, order]
            self.labels[number, embedded] = self.label(*logits)
        self.is_labelled.fill_(True)

    def label(self, first: Tensor, second: Tensor) -> Tensor:
        """Return the labels int64 [N] of one head, of both modalities' logits [N, K]."""
        agreed = sum(logits.double().log_softmax(dim=1) for logits in (first, second))
        assert isinstance(agreed, Tensor)
        sizes = None
        if self.options.sizes == "gaussian":
            drawn = 1 + 0.1 * torch.randn(agreed.shape[1], dtype=torch.float64)
            sizes = sizes_by_rank(agreed, drawn.clamp_min(0.1).to(agreed.device))
        scores = agreed * (self.options.sharpness / 2)
        return even_shares(scores, self.options.tolerance, sizes).argmax(dim=1)

    def forward(self, batch: Batch) -> Losses:
        """Return the loss of a batch, a float32 scalar, and each modality's."""
        parts = {}
        for view in self.towers.views(batch):
            features = self.towers.features(view.modality, view.values)  # B × E
            labels = self.labels[:, view.codes[:, self.plan.names.index("sample")]]  # H × B
            heads = cast(nn.ModuleList, self.heads[view.modality])
            logits = [at_least_float32(head(features)) for head in heads]
            pairs = zip(logits, labels, strict=True)
            losses = [F.cross_entropy(rows, of, reduction="none") for rows, of in pairs]
            parts[view.modality] = global_mean(torch.stack(losses).mean(dim=0))
        return Losses(torch.stack(list(parts.values())).mean(), parts)

    def _heads(self, number: int) -> tuple[nn.Module, nn.Module]:
        first, second = (cast(nn.ModuleList, self.heads[m]) for m in self.plan.modalities)
        return first[number], second[number]


def sizes_by_rank(agreed: Tensor, drawn: Tensor) -> Tensor:
    """Return the clusters' sizes [K]: inverses of drawn ones, by how much each is predicted.

    As in the authors' code the i-th drawn size [K] goes, as its inverse, to the i-th least
    predicted cluster.

    Args:
        agreed: [N, K], sums of both modalities' log-probabilities.
        drawn: [K].
    """
    sizes = torch.empty_like(drawn)
    sizes[agreed.exp().sum(dim=0).argsort()] = 1 / drawn
    return sizes


def matching(first: Tensor, second: Tensor) -> Tensor:
    """Return an order of the second's clusters in which they agree with the first's, int64 [K].

    No two of it can be swapped so that predictions [N, K] agree more.
    """
    agreement = first.T @ second  # K × K
    order = torch.arange(len(agreement), device=first.device)
    while True:
        now = agreement[:, order]
        own = now.diagonal()
        gain = now + now.T - own[:, None] - own[None]  # of swapping two
        best = int(gain.argmax())
        i, j = divmod(best, len(order))
        if gain[i, j] <= 1e-9 * own.sum():
            return order
        order[[i, j]] = order[[j, i]]


@torch.no_grad()
def reorder(head: nn.Sequential, order: Tensor) -> None:
    """Put a classifier's clusters in an order, int64 [K]."""
    last = cast(nn.Linear, head[-1])
    last.weight.copy_(last.weight[order])
    last.bias.copy_(last.bias[order])
