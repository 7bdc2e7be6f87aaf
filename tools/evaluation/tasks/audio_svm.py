"""Classification by a linear SVM on segments, as the audio papers test on ESC-50 and DCASE2014.

A LinearSVC (squared hinge, one against the rest, intercept penalised) learns from every segment of
the training clips; a clip's answer is the class with the greatest mean decision value over its
segments. With --test alone the data set's own folds are used, each the test of a classifier of the
others, and the accuracy is the mean over the folds; with --train too, the second set is the test.

The steps are those of CrissCross (pritamqu/CrissCross@1fe8953, audio_svm.py), but for this:

- The cost is picked on one of the training folds (or a third of the training clips), where theirs
  is picked on the test fold: here that is asked once.
- Training clips give the same evenly spaced segments as test clips, theirs 100 augmented ones.
- `layer` "features" is what the encoder gives, scaled to length 1; "maps" is what they take, the
  last map before its pooling (see `pooled_over_time`).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from shards.plural import plural
from tools.evaluation.encoders import Layer
from tools.evaluation.errors import EvaluationError
from tools.evaluation.intervals import bootstrap
from tools.evaluation.result import Score
from tools.evaluation.split import Split, unit_rows
from tools.evaluation.tasks.labelled import (
    accuracy,
    chance_scores,
    check_can_learn,
    most_frequent_label,
)

COSTS = (1e-5, 1e-4, 1e-3, 1e-2, 0.05, 0.1, 1.0)
_METRIC = "accuracy"

Segments = npt.NDArray[np.float32]  # [N, S, E]


@dataclass(frozen=True)
class AudioSvm:
    """Linear SVM on segments, of audio by default.

    Attributes:
        layer: "features" or "maps", see the module.
    """

    layer: Layer = "features"
    name: ClassVar[str] = "audio-svm"
    title: ClassVar[str] = "linear SVM on segments of frozen features"
    needs_labels: ClassVar[bool] = True
    interval: ClassVar[str] = "95 % bootstrap over folds, or clips"

    def settings(self) -> dict[str, Any]:
        """The costs that are tried."""
        return {"costs": list(COSTS)}

    def check(self, splits: Mapping[str, Split]) -> list[str]:
        """Two labels or more; folds, or a data set to learn from."""
        check_can_learn(splits, "a linear SVM")
        if self.layer == "maps" and splits["test"].modalities != ("audio",):
            raise EvaluationError(
                f"--layer maps is of sound, whose maps have time as their last axis; got "
                f"--modality {', '.join(splits['test'].modalities)}: ask for features of those"
            )
        if "train" not in splits:
            _check_folds(splits["test"])
        return []

    def score(self, encoder: str, splits: Mapping[str, Split]) -> list[Score]:
        """Accuracy of every modality."""
        test = splits["test"]
        labels = np.array(test.labels)
        scores = []
        for modality in test.modalities:
            rows = self._rows(test, modality)
            if "train" in splits:
                train = splits["train"]
                known, names = self._rows(train, modality), np.array(train.labels)
                held = held_out_third(train.labels)
                answers = learn_and_answer(known, names, held, rows)
                scores.append(accuracy(modality, encoder, _METRIC, answers, test.labels))
                continue
            folds, found = np.array(test.folds), []
            names_of_folds = sorted(set(test.folds))
            for place, fold in enumerate(names_of_folds):
                asked = folds == fold
                choice = names_of_folds[(place + 1) % len(names_of_folds)]
                answers = learn_and_answer(
                    rows[~asked], labels[~asked], folds[~asked] == choice, rows[asked]
                )
                found.append(float((np.array(answers) == labels[asked]).mean()))
            mean = float(np.mean(found))
            scores.append(Score(modality, encoder, _METRIC, mean, *bootstrap(found)))
        return scores

    def chance(self, splits: Mapping[str, Split]) -> list[Score]:
        """Always the most frequent label."""
        learned = splits.get("train", splits["test"]).labels
        return chance_scores([_METRIC], most_frequent_label(learned, splits["test"].labels))

    def left_out(self, splits: Mapping[str, Split]) -> list[dict[str, str]]:
        """Nothing."""
        return []

    def _rows(self, split: Split, modality: str) -> Segments:
        rows = split.segments(modality)
        return unit_rows(rows) if self.layer == "features" else rows


def _check_folds(split: Split) -> None:
    """Refuse folds that a classifier of the others could not answer."""
    folds = sorted(set(split.folds))
    if len(folds) < 3:
        raise EvaluationError(
            f"{split.dataset.path}: its clips are in {plural(len(folds), 'fold')}; one is the "
            "test, one chooses the cost, one is left to learn from: 3 folds at least, or two data "
            "sets, --train and --test"
        )
    places: dict[str, set[str]] = {}
    for label, fold in zip(split.labels, split.folds, strict=True):
        places.setdefault(label, set()).add(fold)
    for label, only in sorted(places.items()):
        if len(only) == 1:
            raise EvaluationError(
                f"{split.dataset.path}: all clips of {label!r} are in fold {min(only)}, so that "
                "what learns from the other folds does not know it; spread each label over folds"
            )


def held_out_third(labels: Sequence[str]) -> npt.NDArray[np.bool_]:
    """Which clips choose C: every third of each label, never a label's only one."""
    seen: Counter[str] = Counter()
    held = np.zeros(len(labels), bool)
    for row, label in enumerate(labels):
        held[row] = seen[label] % 3 == 2
        seen[label] += 1
    return held


def fit_svm(
    segments: Segments,
    labels: Sequence[str] | npt.NDArray[Any],
    cost: float,
    tolerance: float = 1e-4,
) -> Any:
    """A LinearSVC of segments [N, S, E] under the labels of their clips, N."""
    from sklearn.svm import LinearSVC

    clips, count, size = segments.shape
    names = np.repeat(np.array(labels), count)
    machine = LinearSVC(C=cost, tol=tolerance, max_iter=10_000, random_state=0)
    return machine.fit(segments.reshape(clips * count, size), names)


def clip_decisions(machine: Any, segments: Segments) -> npt.NDArray[np.float64]:
    """Decision values of clips, mean over their segments [N, S, E]: [N, K] ([N] of two classes)."""
    clips, count, size = segments.shape
    values = machine.decision_function(segments.reshape(clips * count, size))
    means: npt.NDArray[np.float64] = values.reshape(clips, count, *values.shape[1:]).mean(axis=1)
    return means


def answers_of(machine: Any, segments: Segments) -> list[str]:
    """The label of each clip."""
    decisions = clip_decisions(machine, segments)
    winners = decisions.argmax(axis=1) if decisions.ndim == 2 else (decisions > 0).astype(int)
    return [str(label) for label in machine.classes_[winners]]


def learn_and_answer(
    rows: Segments,
    labels: npt.NDArray[Any],
    held: npt.NDArray[np.bool_],
    asked: Segments,
) -> list[str]:
    """Choose C on the held-out clips, learn from all, answer."""
    rows, cost = np.asarray(rows), 1.0
    if held.any() and len(set(labels[~held])) >= 2:
        machines = [fit_svm(rows[~held], labels[~held], cost) for cost in COSTS]
        right = [np.array(answers_of(m, rows[held])) == labels[held] for m in machines]
        cost = COSTS[int(np.argmax([share.mean() for share in right]))]
    return answers_of(fit_svm(rows, labels, cost), asked)
