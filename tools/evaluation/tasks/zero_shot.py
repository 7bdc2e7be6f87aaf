"""Zero-shot: a clip shows the label whose words its embedding is nearest to; nothing is trained.

Each label becomes a sentence for each prompt, {} in it being the label; a label's vector is the
mean of its sentences' (Radford et al. 2021, arXiv:2103.00020, §3.1.4). For runs with a text
encoder.

Legend: N clips, K labels, P prompts, D numbers of an embedding.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import torch

from tools.evaluation.encoders import Encoder, Layer, trained_encoder, untrained_encoder
from tools.evaluation.errors import EvaluationError
from tools.evaluation.result import CHANCE, Score
from tools.evaluation.split import Split, unit_rows
from tools.evaluation.tasks.labelled import depths_left_out, depths_of, top_accuracies
from tools.runs.run import Run


@dataclass(frozen=True, eq=False)
class ZeroShot:
    """Labels by their words.

    Attributes:
        run: with an encoder for text.
        prompts: P sentences with {} in each.
    """

    run: Run
    prompts: tuple[str, ...] = ("{}",)
    name: ClassVar[str] = "zero-shot"
    title: ClassVar[str] = "zero-shot accuracy, by the words of the labels"
    layer: ClassVar[Layer] = "embeddings"
    needs_labels: ClassVar[bool] = True
    interval: ClassVar[str] = "95 % bootstrap over the test clips"

    @classmethod
    def of(cls, run: Run, prompts: Sequence[str]) -> Self:
        """The task for a run.

        Raises:
            EvaluationError: it has no encoder for text, or none besides; a prompt without {}.
        """
        if "text" not in run.plan.modalities or len(run.plan.modalities) < 2:
            raise EvaluationError(
                f"{run.path} has encoders for {', '.join(run.plan.modalities)}: zero-shot needs "
                "one for text, and one for what clips are asked by"
            )
        wrong = [prompt for prompt in prompts if prompt.count("{}") != 1]
        if wrong:
            raise EvaluationError(
                f"--prompt {wrong[0]!r}: must hold {{}} once, where the label goes"
            )
        return cls(run, tuple(prompts))

    @property
    def modalities(self) -> tuple[str, ...]:
        """What clips are asked by: all that the run has but text."""
        return tuple(name for name in self.run.plan.modalities if name != "text")

    def settings(self) -> dict[str, Any]:
        """The prompts."""
        return {"prompts": list(self.prompts)}

    def check(self, splits: Mapping[str, Split]) -> list[str]:
        """Two labels or more, and clips that are not asked by their own words."""
        test = splits["test"]
        if "text" in test.modalities:
            raise EvaluationError("--modality text: labels are words already; ask by another")
        if len(set(test.labels)) < 2:
            raise EvaluationError(
                f"{test.dataset.path}: all clips have the one label {test.labels[0]!r}; whatever "
                "the model, every answer would be right"
            )
        return []

    def score(self, encoder: str, splits: Mapping[str, Split]) -> list[Score]:
        """Accuracy of every modality."""
        test, scores = splits["test"], []
        labels = sorted(set(test.labels))
        make = {"trained": trained_encoder, "untrained": untrained_encoder}[encoder]
        words = self.vectors_of(labels, make(self.run))
        for modality in test.modalities:
            similarities = test.means(modality) @ words.T  # N × K
            scores += top_accuracies(modality, encoder, similarities, labels, test)
        return scores

    def vectors_of(self, labels: Sequence[str], encoder: Encoder) -> npt.NDArray[np.float32]:
        """The vectors of labels, float32 [K, D], of length 1."""
        tokens = self.run.device_transform.tokens
        assert tokens is not None
        device = next(encoder.method.parameters()).device
        encoder.method.eval()
        found = []
        with torch.inference_mode():
            for prompt in self.prompts:
                values = tokens([prompt.replace("{}", label) for label in labels]).to(device)
                found.append(encoder.rows("embeddings", "text", values))
        return unit_rows(np.mean(found, axis=0))

    def chance(self, splits: Mapping[str, Split]) -> list[Score]:
        """Some of the labels at random."""
        count = len(set(splits["test"].labels))
        return [Score("", CHANCE, f"top-{depth}", depth / count) for depth in depths_of(count)]

    def left_out(self, splits: Mapping[str, Split]) -> list[dict[str, str]]:
        """Depths at which every answer is right."""
        return depths_left_out(len(set(splits["test"].labels)))
