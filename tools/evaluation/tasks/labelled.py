"""What tasks with labels share: accuracy, its interval, and its chance."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from tools.evaluation.intervals import bootstrap
from tools.evaluation.result import CHANCE, Score


def accuracy(
    of: str, encoder: str, metric: str, answers: Sequence[str], labels: Sequence[str]
) -> Score:
    """The share of right answers, with its interval over the clips."""
    right = np.array(answers) == np.array(labels)
    return Score(of, encoder, metric, float(right.mean()), *bootstrap(right))


def most_frequent_label(train: Sequence[str], test: Sequence[str]) -> float:
    """What always answering the training clips' most frequent label scores."""
    counts = Counter(train)
    answer = min(counts, key=lambda label: (-counts[label], label))
    return test.count(answer) / len(test)


def chance_scores(metrics: Sequence[str], value: float) -> list[Score]:
    """One row of chance, the same for every metric."""
    return [Score("", CHANCE, metric, value) for metric in metrics]
