"""Weighted k-nearest-neighbour classification of frozen features, and how well it does.

The protocol of Wu et al., "Unsupervised Feature Learning via Non-Parametric Instance
Discrimination", CVPR 2018, §3.4: each of the k training clips whose features are nearest to a test
clip's, by cosine s, votes for its own label with weight exp(s / 0.07); nothing is trained.

Legend: N training clips, Q test clips, E features, K classes.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

VOTE_TEMPERATURE = 0.07
_QUERIES_AT_ONCE = 1024


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
    train: LabelledFeatures,
    queries: Tensor,
    k: int,
    temperature: float = VOTE_TEMPERATURE,
    *,
    leave_self_out: bool = False,
) -> list[str]:
    """Let the k nearest training clips vote for each query's label.

    Args:
        train: the clips that vote; k of all of them where there are fewer.
        queries: float [Q, E], rows of length 1.
        k: how many vote.
        temperature: of the votes.
        leave_self_out: query i is training clip i, and does not vote for itself.

    Raises:
        ValueError: k below 1, features of another length, or nobody to vote.
    """
    if k < 1:
        raise ValueError(f"k is a count of neighbours, at least 1; got {k}")
    if queries.ndim != 2 or queries.shape[1] != train.features.shape[1]:
        raise ValueError(
            f"queries must be [Q, {train.features.shape[1]}] like the training features, "
            f"got {list(queries.shape)}"
        )
    num_voters = len(train.labels) - leave_self_out
    if num_voters < 1 or (leave_self_out and len(queries) != len(train.labels)):
        raise ValueError(
            f"{len(train.labels)} training clips for {len(queries)} queries: leaving each query "
            "out of its own neighbours needs the same clips on both sides, and two of them"
        )
    names = sorted(set(train.labels))
    places = {name: place for place, name in enumerate(names)}
    classes = torch.tensor([places[label] for label in train.labels])  # N
    answers: list[str] = []
    for first in range(0, len(queries), _QUERIES_AT_ONCE):
        block = queries[first : first + _QUERIES_AT_ONCE]
        similarity = block @ train.features.T  # block × N
        if leave_self_out:
            own = torch.arange(len(block))
            similarity[own, own + first] = -torch.inf
        nearest, rows = similarity.topk(min(k, num_voters), dim=1)  # block × k
        # exp(s/τ) up to a factor that all votes of a query share, so that nothing overflows
        votes = ((nearest - nearest[:, :1]) / temperature).exp()  # block × k
        scores = votes.new_zeros(len(block), len(names)).scatter_add_(1, classes[rows], votes)
        answers += [names[winner] for winner in scores.argmax(1).tolist()]
    return answers
