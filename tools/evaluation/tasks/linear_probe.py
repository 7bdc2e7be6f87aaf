"""Linear probe: a logistic regression on frozen features, fitted to the training clips.

Features are standardised by the training clips' mean and deviation. Its one number, the strength of
the regularisation, is chosen by cross-validation among the training clips, never on the test clips;
or it is given.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from tools.evaluation.encoders import Layer
from tools.evaluation.result import Score
from tools.evaluation.split import Split
from tools.evaluation.tasks.labelled import (
    accuracy,
    chance_scores,
    check_can_learn,
    most_frequent_label,
)

COSTS = (0.001, 0.01, 0.1, 1.0, 10.0)
_FOLDS = 3
_METRIC = "accuracy"


@dataclass(frozen=True)
class LinearProbe:
    """Multinomial logistic regression (scikit-learn's, L-BFGS).

    Attributes:
        costs: strengths that are tried, as scikit-learn's C; with a single one nothing is chosen.
    """

    costs: tuple[float, ...] = COSTS
    name: ClassVar[str] = "linear-probe"
    title: ClassVar[str] = "linear probe of frozen features"
    layer: ClassVar[Layer] = "features"
    needs_labels: ClassVar[bool] = True
    interval: ClassVar[str] = "95 % bootstrap over the test clips"

    def settings(self) -> dict[str, Any]:
        """The costs that are tried, and on how many folds of the training clips."""
        return {"costs": list(self.costs), "folds": _FOLDS}

    def check(self, splits: Mapping[str, Split]) -> list[str]:
        """Test labels are known, test clips are not."""
        check_can_learn(splits, "a linear probe")
        return []

    def score(self, encoder: str, splits: Mapping[str, Split]) -> list[Score]:
        """Accuracy of every modality."""
        train, test = splits["train"], splits["test"]
        scores = []
        for modality in test.modalities:
            answers = fit_and_answer(
                train.means(modality), train.labels, test.means(modality), self.costs
            )
            scores.append(accuracy(modality, encoder, _METRIC, answers, test.labels))
        return scores

    def chance(self, splits: Mapping[str, Split]) -> list[Score]:
        """Always the most frequent label."""
        value = most_frequent_label(splits["train"].labels, splits["test"].labels)
        return chance_scores([_METRIC], value)

    def left_out(self, splits: Mapping[str, Split]) -> list[dict[str, str]]:
        """The choice of the cost, where labels are too rare for folds."""
        rarest = min(Counter(splits["train"].labels).values())
        if rarest >= _FOLDS or len(self.costs) == 1:
            return []
        why = f"a label has {rarest} training clips, and {_FOLDS} folds need as many; it is 1"
        return [{"what": "choice of the cost", "why": why}]


def fit_and_answer(
    train: npt.NDArray[np.float32],
    labels: Sequence[str],
    test: npt.NDArray[np.float32],
    costs: Sequence[float] = COSTS,
) -> list[str]:
    """Fit to training features [N, E] and their labels, and answer for test features [Q, E]."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV, StratifiedKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    cost = costs[0] if len(costs) == 1 else 1.0
    classifier = make_pipeline(StandardScaler(), LogisticRegression(C=cost, max_iter=3000))
    if len(costs) > 1 and min(Counter(labels).values()) >= _FOLDS:
        folds = StratifiedKFold(_FOLDS, shuffle=True, random_state=0)
        grid = {"logisticregression__C": list(costs)}
        classifier = GridSearchCV(classifier, grid, cv=folds)
    classifier.fit(train, list(labels))
    return [str(answer) for answer in classifier.predict(test)]
