"""kNN: the nearest training clips vote for a test clip's label; nothing is trained.

See tools/evaluation/neighbors.py. Where the training clips are the test clips, each clip is left
out of its own neighbours.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from tools.evaluation.encoders import Layer
from tools.evaluation.errors import EvaluationError
from tools.evaluation.neighbors import VOTE_TEMPERATURE, LabelledFeatures, predict
from tools.evaluation.result import Score
from tools.evaluation.split import Split, check_labels
from tools.evaluation.tasks.labelled import accuracy, chance_scores, most_frequent_label

LEFT_OUT = "The training clips are the test clips: each was left out of its own neighbours."


@dataclass(frozen=True)
class Knn:
    """Weighted k-nearest-neighbour classification.

    Attributes:
        ks: how many vote.
    """

    ks: tuple[int, ...] = (1, 5, 20)
    name: ClassVar[str] = "knn"
    title: ClassVar[str] = "kNN accuracy of frozen features"
    layer: ClassVar[Layer] = "features"
    needs_labels: ClassVar[bool] = True
    interval: ClassVar[str] = "95 % bootstrap over the test clips"

    def settings(self) -> dict[str, Any]:
        """How many vote, and the votes' temperature."""
        return {"ks": list(self.ks), "vote_temperature": VOTE_TEMPERATURE}

    def check(self, splits: Mapping[str, Split]) -> list[str]:
        """Every test label is a training label, and a clip has a neighbour."""
        check_labels(splits)
        train = splits["train"]
        if not train.is_same_as(splits["test"]):
            return []
        if len(train.labels) < 2:
            raise EvaluationError(
                f"{train.dataset.path} has one clip, which is left out of its own neighbours: "
                "nobody votes. Give two clips or more, or others with --train"
            )
        return [LEFT_OUT]

    def score(self, encoder: str, splits: Mapping[str, Split]) -> list[Score]:
        """Accuracy of every modality at every k."""
        train, test = splits["train"], splits["test"]
        leave_out = train.is_same_as(test)
        scores = []
        for modality in test.modalities:
            known = LabelledFeatures(torch.from_numpy(train.means(modality)), train.labels)
            asked = torch.from_numpy(test.means(modality))
            for k in self.ks:
                answers = predict(known, asked, k, leave_self_out=leave_out)
                scores.append(accuracy(modality, encoder, _metric(k), answers, test.labels))
        return scores

    def chance(self, splits: Mapping[str, Split]) -> list[Score]:
        """Always the most frequent label."""
        value = most_frequent_label(splits["train"].labels, splits["test"].labels)
        return chance_scores([_metric(k) for k in self.ks], value)

    def left_out(self, splits: Mapping[str, Split]) -> list[dict[str, str]]:
        """More neighbours than there are clips."""
        num_clips = len(splits["train"].keys) - splits["train"].is_same_as(splits["test"])
        why = f"all {num_clips} training clips vote, since there are no more"
        return [{"what": _metric(k), "why": why} for k in self.ks if k > num_clips]


def _metric(k: int) -> str:
    return f"accuracy, k = {k}"
