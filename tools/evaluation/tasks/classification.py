"""Classification: what a classifier that `gdt finetune` made says of clips that it did not learn.

A clip's answer is the class of the greatest mean logit over its segments and their crops; 10
segments and 3 crops in the papers on UCF-101 and HMDB-51. The weights are those of the last step:
none of them was chosen by what it scores here.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from models import Labels
from shards import Samples
from tools.evaluation.encoders import Layer
from tools.evaluation.errors import EvaluationError
from tools.evaluation.result import CHANCE, Score
from tools.evaluation.split import Split, mean_of_segments
from tools.evaluation.tasks.labelled import depths_left_out, depths_of, top_accuracies
from tools.runs.run import Run


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
        check_learned(test.dataset, test.labels, self.classes)
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
        test, scores = splits["test"], []
        for modality in test.modalities:
            logits = mean_of_segments(test.segments(modality))
            scores += top_accuracies(modality, encoder, logits, self.classes, test)
        return scores

    def chance(self, splits: Mapping[str, Split]) -> list[Score]:
        """Always the most frequent labels of training."""
        counts, labels = self.learned.counts, splits["test"].labels
        frequent = sorted(counts, key=lambda label: (-counts[label], label))
        return [
            Score(
                "", CHANCE, f"top-{depth}", sum(map(frequent[:depth].count, labels)) / len(labels)
            )
            for depth in depths_of(len(self.classes))
        ]

    def left_out(self, splits: Mapping[str, Split]) -> list[dict[str, str]]:
        """Depths at which every answer is right."""
        return depths_left_out(len(self.classes))


def check_learned(test: Samples, labels: Sequence[str], classes: Sequence[str]) -> None:
    """Refuse test labels that are no class of the classifier.

    Raises:
        EvaluationError: there are some.
    """
    unknown = sorted(set(labels) - set(classes))
    if unknown:
        raise EvaluationError(
            f"{test.path} has labels that the classifier has not learned: "
            f"{', '.join(unknown[:5])}; it knows {', '.join(classes[:20])}"
        )
