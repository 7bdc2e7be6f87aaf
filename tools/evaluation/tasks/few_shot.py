"""Few-shot: a logistic regression on the features of few labelled clips a class, over many draws.

Each draw takes n training clips of every label, the same clips for every encoder and modality, and
answers for all test clips.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from tools.evaluation.encoders import Layer
from tools.evaluation.errors import EvaluationError
from tools.evaluation.intervals import bootstrap
from tools.evaluation.result import Score
from tools.evaluation.split import Split
from tools.evaluation.tasks.labelled import chance_scores, check_can_learn


@dataclass(frozen=True)
class FewShot:
    """Logistic regression on n clips a label.

    Attributes:
        shots: n; each that every label has clips for is scored.
        draws: how often they are drawn.
        seed: of the draws.
    """

    shots: tuple[int, ...] = (1, 5, 20)
    draws: int = 10
    seed: int = 0
    name: ClassVar[str] = "few-shot"
    title: ClassVar[str] = "few-shot accuracy of frozen features"
    layer: ClassVar[Layer] = "features"
    needs_labels: ClassVar[bool] = True
    interval: ClassVar[str] = "95 % bootstrap over the draws"

    def settings(self) -> dict[str, Any]:
        """Shots, draws and their seed."""
        return {"shots": list(self.shots), "draws": self.draws, "seed": self.seed}

    def check(self, splits: Mapping[str, Split]) -> list[str]:
        """Test labels are known, test clips are not, and at least one n can be drawn."""
        check_can_learn(splits, "few-shot")
        counts = Counter(splits["train"].labels)
        label, rarest = min(counts.items(), key=lambda entry: (entry[1], entry[0]))
        if rarest < min(self.shots):
            raise EvaluationError(
                f"{splits['train'].dataset.path} has {len(counts)} labels, the rarest ({label!r}) "
                f"with {rarest} clips; few-shot with {min(self.shots)} clips a label needs that "
                "many of each"
            )
        return []

    def score(self, encoder: str, splits: Mapping[str, Split]) -> list[Score]:
        """Mean accuracy over the draws, of every modality and n."""
        train, test = splits["train"], splits["test"]
        truth = np.array(test.labels)
        scores = []
        for modality in test.modalities:
            known, asked = train.means(modality), test.means(modality)
            for shots in self._possible(train):
                found = []
                for draw in range(self.draws):
                    rows = drawn_rows(train.labels, shots, self.seed + draw)
                    answers = _answers(known[rows], np.array(train.labels)[rows], asked)
                    found.append(float((answers == truth).mean()))
                mean = float(np.mean(found))
                scores.append(Score(modality, encoder, _metric(shots), mean, *bootstrap(found)))
        return scores

    def chance(self, splits: Mapping[str, Split]) -> list[Score]:
        """One of the labels at random."""
        metrics = [_metric(shots) for shots in self._possible(splits["train"])]
        return chance_scores(metrics, 1 / len(set(splits["train"].labels)))

    def left_out(self, splits: Mapping[str, Split]) -> list[dict[str, str]]:
        """Each n that a label has too few clips for."""
        counts = Counter(splits["train"].labels)
        label = min(counts, key=lambda name: (counts[name], name))
        why = f"the label {label!r} has {counts[label]} training clips"
        possible = self._possible(splits["train"])
        return [{"what": _metric(n), "why": why} for n in self.shots if n not in possible]

    def _possible(self, train: Split) -> list[int]:
        rarest = min(Counter(train.labels).values())
        return [shots for shots in self.shots if shots <= rarest]


def drawn_rows(labels: Sequence[str], shots: int, seed: int) -> npt.NDArray[np.int64]:
    """Rows of `shots` clips of every label, without replacement."""
    rng, names = np.random.default_rng(seed), np.array(list(labels))
    drawn = [
        rng.choice(np.flatnonzero(names == label), shots, replace=False)
        for label in sorted(set(labels))
    ]
    return np.concatenate(drawn).astype(np.int64)


def _answers(
    known: npt.NDArray[np.float32], labels: npt.NDArray[Any], asked: npt.NDArray[np.float32]
) -> npt.NDArray[Any]:
    from sklearn.linear_model import LogisticRegression

    found: npt.NDArray[Any] = LogisticRegression(max_iter=3000).fit(known, labels).predict(asked)
    return found


def _metric(shots: int) -> str:
    return f"accuracy, {shots} a label"
