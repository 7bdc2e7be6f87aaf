"""What tasks with labels share: what they refuse; accuracy, its interval, and its chance."""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from tools.evaluation.errors import EvaluationError
from tools.evaluation.intervals import bootstrap
from tools.evaluation.result import CHANCE, Score
from tools.evaluation.split import Split, check_apart, check_labels


def check_can_learn(splits: Mapping[str, Split], task: str) -> None:
    """Refuse data sets from which a classifier cannot learn what it is asked.

    Raises:
        EvaluationError: the test clips are those learned from, have a label that none of those has,
            or there is but one label.
    """
    learned = splits.get("train", splits["test"])
    if "train" in splits:
        check_apart(splits, task)
        check_labels(splits)
    if len(set(learned.labels)) < 2:
        raise EvaluationError(
            f"{learned.dataset.path}: all clips have the one label {learned.labels[0]!r}; a "
            "classifier needs two"
        )


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
