"""What tasks with labels share: what they refuse; accuracy, its interval, and its chance."""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

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


#: k of top-k accuracy, where there are more classes than that.
DEPTHS = (1, 5)


def place_of_truth(
    scores: npt.NDArray[np.float32], truth: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """How many classes stand before the right one; among equal scores the first class goes first.

    Args:
        scores: [N, K].
        truth: [N], each clip's class.
    """
    order = np.argsort(-scores, axis=1, kind="stable")
    return np.asarray((order == truth[:, None]).argmax(axis=1))


def top_accuracies(
    of: str, encoder: str, scores: npt.NDArray[np.float32], classes: Sequence[str], split: Split
) -> list[Score]:
    """Top-1 and top-5 accuracy by scores [N, K] of classes, with their intervals over the clips."""
    numbers = {name: number for number, name in enumerate(classes)}
    places = place_of_truth(scores, np.array([numbers[label] for label in split.labels]))
    rights = {depth: places < depth for depth in depths_of(len(classes))}
    return [
        Score(of, encoder, f"top-{depth}", float(right.mean()), *bootstrap(right))
        for depth, right in rights.items()
    ]


def depths_of(num_classes: int) -> list[int]:
    """Those that not every answer reaches."""
    return [depth for depth in DEPTHS if depth < num_classes]


def depths_left_out(num_classes: int) -> list[dict[str, str]]:
    """The others, and why they say nothing."""
    why = f"there are {num_classes} classes: every answer holds the right one"
    return [{"what": f"top-{depth}", "why": why} for depth in DEPTHS if depth >= num_classes]


def most_frequent_label(train: Sequence[str], test: Sequence[str]) -> float:
    """What always answering the training clips' most frequent label scores."""
    counts = Counter(train)
    answer = min(counts, key=lambda label: (-counts[label], label))
    return test.count(answer) / len(test)


def chance_scores(metrics: Sequence[str], value: float) -> list[Score]:
    """One row of chance, the same for every metric."""
    return [Score("", CHANCE, metric, value) for metric in metrics]
