"""Weighted k-nearest-neighbour classification of frozen features, and how well it does.

The protocol of Wu et al., "Unsupervised Feature Learning via Non-Parametric Instance
Discrimination", CVPR 2018, §3.4: each of the k training clips whose features are nearest to a test
clip's, by cosine s, votes for its own label with weight exp(s / 0.07); nothing is trained.

Legend: N training clips, Q test clips, E features, K classes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

VOTE_TEMPERATURE = 0.07


@dataclass(frozen=True)
class LabelledFeatures:
    """Features of a data set's clips, one modality, and what the clips show.

    Attributes:
        features: float32 [N, E], rows of length 1.
        labels: one a row.
    """

    features: Tensor
    labels: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.features.ndim != 2 or len(self.features) != len(self.labels):
            raise ValueError(
                f"features must be [N, E] with one label a row, got {list(self.features.shape)} "
                f"for {len(self.labels)} labels"
            )

    def __repr__(self) -> str:
        return f"LabelledFeatures({list(self.features.shape)}, {len(set(self.labels))} labels)"


def predict(
    train: LabelledFeatures, queries: Tensor, k: int, temperature: float = VOTE_TEMPERATURE
) -> list[str]:
    """Let the k nearest training clips vote for each query's label.

    Args:
        train: the clips that vote; k of all of them where there are fewer.
        queries: float [Q, E], rows of length 1.
        k: how many vote.
        temperature: of the votes.

    Raises:
        ValueError: k below 1, or features of another length.
    """
    if k < 1:
        raise ValueError(f"k is a count of neighbours, at least 1; got {k}")
    if queries.ndim != 2 or queries.shape[1] != train.features.shape[1]:
        raise ValueError(
            f"queries must be [Q, {train.features.shape[1]}] like the training features, "
            f"got {list(queries.shape)}"
        )
    names = sorted(set(train.labels))
    classes = torch.tensor([names.index(label) for label in train.labels])  # N
    similarity = queries @ train.features.T  # Q × N
    nearest, rows = similarity.topk(min(k, len(train.labels)), dim=1)  # Q × k
    # exp(s/τ) up to a factor that all votes of a query share, so that nothing overflows
    votes = ((nearest - nearest[:, :1]) / temperature).exp()  # Q × k
    scores = votes.new_zeros(len(queries), len(names)).scatter_add_(1, classes[rows], votes)
    return [names[winner] for winner in scores.argmax(1).tolist()]


def accuracies(
    train: LabelledFeatures, test: LabelledFeatures, ks: Sequence[int]
) -> dict[int, float]:
    """The share of test clips whose label kNN finds, for each k.

    Raises:
        ValueError: a test label that no training clip has.
    """
    unknown = sorted(set(test.labels) - set(train.labels))
    if unknown:
        raise ValueError(
            f"the test clips have labels that no training clip has: {', '.join(unknown[:5])}; "
            f"the training clips have {', '.join(sorted(set(train.labels))[:20])}"
        )
    return {k: _share(predict(train, test.features, k), test.labels) for k in ks}


def chance(train_labels: Sequence[str], test_labels: Sequence[str]) -> float:
    """What always answering the training clips' most frequent label scores."""
    counts: Mapping[str, int] = {label: train_labels.count(label) for label in set(train_labels)}
    answer = min(counts, key=lambda label: (-counts[label], label))
    return _share([answer] * len(test_labels), test_labels)


def _share(answers: Sequence[str], labels: Sequence[str]) -> float:
    right = sum(answer == label for answer, label in zip(answers, labels, strict=True))
    return right / len(labels)
