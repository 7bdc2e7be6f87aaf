"""Distillation: a student says of unlabelled samples what a classifier says of them.

Chen et al., "Big Self-Supervised Models are Strong Semi-Supervised Learners" (SimCLR v2), NeurIPS
2020, arXiv:2006.10029, §2, equation 2: cross-entropy with the teacher's distribution, both at one
temperature. The teacher is a run of `gdt finetune`, and sees the rows that the student sees; labels
are not asked for. A student of the teacher's own kind is the paper's self-distillation.

Legend: B rows of one view, K classes.
"""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from gdt import Batch, global_mean
from models.method import Losses, Needs, Setting
from models.methods.classifier import Classifier, ClassifierOptions


@dataclass(frozen=True)
class DistillationOptions(ClassifierOptions):
    """`[method]`: what a teacher says of unlabelled samples.

    Attributes:
        name: "distillation".
        teacher: run folder of `gdt finetune`; its last checkpoint says what is learned.
        temperature: that the logits of both are divided by.
    """

    name: Literal["distillation"] = "distillation"  # type: ignore[assignment]
    teacher: str = ""
    temperature: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_temperatures("temperature")


class Distillation(Classifier):
    """A classifier whose targets are a teacher's.

    Raises:
        ValueError: its teacher is not known.
    """

    options_type = DistillationOptions
    needs = Needs(positives=False, teacher=True, why="a student learns what its teacher says")
    taught_by: Tensor  # int64: the teacher's fingerprint, 0 before the first step

    def __init__(self, options: DistillationOptions, setting: Setting) -> None:
        super().__init__(options, setting)
        self.temperature, self.teacher = options.temperature, setting.teacher
        self.register_buffer("taught_by", torch.zeros((), dtype=torch.int64))

    def forward(self, batch: Batch) -> Losses:
        """Return the mean over modalities of the cross-entropy, and how often both agree.

        Raises:
            ValueError: there is no teacher, or another than the run began with.
        """
        if self.teacher is None:
            raise ValueError("a student without its teacher can be evaluated, not trained")
        if self.training:
            self._check_teacher(self.teacher.fingerprint)
        views = self.towers.views(batch)
        entropies, parts = [], {}
        for modality in self.plan.modalities:
            values = [view.values for view in views if view.modality == modality]
            logits = torch.cat([self.towers.projection(modality, rows) for rows in values])
            taught = torch.cat([self.teacher(modality, rows) for rows in values]).to(logits)
            entropies.append(global_mean(distillation_losses(logits, taught, self.temperature)))
            agree = (logits.argmax(1) == taught.argmax(1)).float()
            parts[f"{modality}_agreement"] = global_mean(agree)
        return Losses(torch.stack(entropies).mean(), parts)

    def _check_teacher(self, fingerprint: int) -> None:
        if self.taught_by == 0:
            self.taught_by.fill_(fingerprint)
        elif self.taught_by != fingerprint:
            raise ValueError(
                "method.teacher has other weights than those that this run began with: resume with "
                "the teacher as it was, or begin a new run"
            )


def distillation_losses(logits: Tensor, taught: Tensor, temperature: float) -> Tensor:
    """Return the cross-entropy of a student with its teacher's distribution, [B].

    Args:
        logits: the student's, [B, K].
        taught: the teacher's, [B, K].
        temperature: of both.
    """
    targets = F.softmax(taught / temperature, dim=1)
    return -(targets * F.log_softmax(logits / temperature, dim=1)).sum(dim=1)
