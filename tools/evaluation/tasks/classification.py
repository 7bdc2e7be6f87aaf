"""Classification: what a classifier that `gdt finetune` made says of clips that it did not learn.

A clip's answer is the class of the greatest mean logit over its segments and their crops; 10
segments and 3 crops in the papers on UCF-101 and HMDB-51. The weights are those of the last step:
none of them was chosen by what it scores here.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from models import Labels
from tools.evaluation.encoders import Layer
from tools.evaluation.errors import EvaluationError
from tools.evaluation.intervals import bootstrap
from tools.evaluation.result import CHANCE, Score
from tools.evaluation.split import Split, mean_of_segments
from tools.runs.run import Run

DEPTHS = (1, 5)


@dataclass(frozen=True)
class Classification:
    """Top-1 and top-5 accuracy of a run's own classifier.

    Attributes:
        learned: the labels that it was trained on.
    """

    learned: Labels
    name: ClassVar[str] = "classification"
    title: ClassVar[str] = "accuracy of the classifier"
    layer: ClassVar[Layer] = "logits"
    needs_labels: ClassVar[bool] = True
    interval: ClassVar[str] = "95 % bootstrap over the test clips"

    @classmethod
    def of(cls, run: Run) -> Self:
        """The task for a run.

        Raises:
            EvaluationError: the run has no classifier.
        """
        if run.setting.labels is None:
            raise EvaluationError(
                f"{run.path} has no classifier: its method is {run.config.method.name}. `gdt "
                f"finetune --run {run.path} --train A --test B` trains one on its encoder; `gdt "
                "evaluate linear-probe` fits one to its features"
            )
        return cls(run.setting.labels)

    @property
    def classes(self) -> tuple[str, ...]:
        """In the order of the logits."""
        return tuple(self.learned.counts)

    def settings(self) -> dict[str, Any]:
        """How a clip is answered for, among how many classes."""
        return {"aggregation": "mean of logits", "classes": len(self.classes)}

    def check(self, splits: Mapping[str, Split]) -> list[str]:
        """Every test label is one of the classes; clips of one source are said to be."""
        test = splits["test"]
        unknown = sorted(set(test.labels) - set(self.classes))
        if unknown:
            raise EvaluationError(
                f"{test.dataset.path} has labels that the classifier has not learned: "
                f"{', '.join(unknown[:5])}; it knows {', '.join(self.classes[:20])}"
            )
        sources = Counter(
            test.dataset.metadata(number).get("source", number) for number in test.numbers.tolist()
        )
        if len(sources) == len(test.numbers):
            return []
        return [
            f"The {len(test.numbers)} clips are of {len(sources)} sources, and each is answered "
            "for by itself. To answer for whole videos build them with --cut ranges "
            "--clip-seconds 600."
        ]

    def score(self, encoder: str, splits: Mapping[str, Split]) -> list[Score]:
        """Accuracy of every modality."""
        test = splits["test"]
        numbers = {name: number for number, name in enumerate(self.classes)}
        truth = np.array([numbers[label] for label in test.labels])
        scores = []
        for modality in test.modalities:
            places = place_of_truth(mean_of_segments(test.segments(modality)), truth)
            for depth in self._depths():
                right = places < depth
                interval = bootstrap(right)
                scores.append(
                    Score(modality, encoder, f"top-{depth}", float(right.mean()), *interval)
                )
        return scores

    def chance(self, splits: Mapping[str, Split]) -> list[Score]:
        """Always the most frequent labels of training."""
        counts, labels = self.learned.counts, splits["test"].labels
        frequent = sorted(counts, key=lambda label: (-counts[label], label))
        return [
            Score(
                "", CHANCE, f"top-{depth}", sum(map(frequent[:depth].count, labels)) / len(labels)
            )
            for depth in self._depths()
        ]

    def left_out(self, splits: Mapping[str, Split]) -> list[dict[str, str]]:
        """Depths at which every answer is right."""
        why = f"there are {len(self.classes)} classes: every answer holds the right one"
        depths = self._depths()
        return [{"what": f"top-{depth}", "why": why} for depth in DEPTHS if depth not in depths]

    def _depths(self) -> list[int]:
        return [depth for depth in DEPTHS if depth < len(self.classes)]


def place_of_truth(
    logits: npt.NDArray[np.float32], truth: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """How many classes stand before the right one; among equal logits the first class goes first.

    Args:
        logits: [N, K].
        truth: [N], each clip's class.
    """
    order = np.argsort(-logits, axis=1, kind="stable")
    return np.asarray((order == truth[:, None]).argmax(axis=1))
