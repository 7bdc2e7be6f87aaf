"""What a method is: it owns encoders, turns a batch into losses, and keeps what it learns from.

    Options ─┐
             ├─► Method(options, setting) ─► forward(batch) → Losses, once a step
    Setting ─┘      before_epoch, after_backward, after_step: what is done around a step

A method is one file in models/methods/: its options, its needs, its forward. What several share is
a part (models/parts). A method never asks what a row is: encoders do.
"""

import math
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

from torch import Tensor, nn

from gdt import Batch, Plan
from models.encoders import EncoderOptions
from models.towers import Towers

__all__ = [
    "EmbedDataset",
    "Labels",
    "Losses",
    "Method",
    "MethodOptions",
    "Needs",
    "ParameterGroup",
    "RunFacts",
    "Setting",
    "Teacher",
]


@dataclass(frozen=True)
class MethodOptions:
    """What every method's options are: a frozen table that checks itself.

    Attributes:
        name: of the method; a subclass gives it a `Literal` type, which tells the tables apart.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "strict": True}

    name: str

    def _check(self, key: str, ok: bool, allowed: str) -> None:
        """Raise ValueError, naming key, value and what is allowed, unless `ok`."""
        if not ok:
            raise ValueError(f"method.{key} = {getattr(self, key)}, must be {allowed}")

    def _check_counts(self, *keys: str) -> None:
        for key in keys:
            self._check(key, getattr(self, key) >= 1, "a count, at least 1")

    def _check_temperatures(self, *keys: str) -> None:
        for key in keys:
            value = getattr(self, key)
            ok = math.isfinite(value) and value > 0
            self._check(key, ok, "above 0: similarities are divided by it (the papers: 0.03 to 1)")

    def _check_shares(self, *keys: str) -> None:
        for key in keys:
            self._check(key, 0 <= getattr(self, key) < 1, "at least 0 and less than 1")


@dataclass(frozen=True)
class RunFacts:
    """What is known of a run before its first step.

    Attributes:
        num_samples: of the data set; the `sample` codes lie in [0, num_samples).
        batch_size: samples of a global batch.
        steps_per_epoch: steps of one pass over the data set.
        num_steps: steps of the whole run.
    """

    num_samples: int
    batch_size: int
    steps_per_epoch: int
    num_steps: int


@dataclass(frozen=True)
class Labels:
    """What the samples of a run show, for a method that learns it.

    Attributes:
        counts: class → how many samples show it; a class's number is its place.
        of_samples: the number of each sample's class, [num_samples]; empty where nothing is learned
            any more.
    """

    counts: Mapping[str, int]
    of_samples: Sequence[int] = ()

    @classmethod
    def of(cls, names: Sequence[str]) -> "Labels":
        """The labels of samples that show these classes, [num_samples]."""
        counts = Counter(names)
        classes = sorted(counts)
        numbers = {name: number for number, name in enumerate(classes)}
        return cls({name: counts[name] for name in classes}, [numbers[name] for name in names])


class Teacher(Protocol):
    """A classifier that a method learns from.

    Attributes:
        labels: what it was trained on.
        fingerprint: of its weights.
    """

    labels: Labels
    fingerprint: int

    def __call__(self, modality: str, values: Tensor) -> Tensor:
        """Return the logits of rows [B, …], without gradients: [B, classes]."""


@dataclass(frozen=True)
class Setting:
    """What a method is built for: plan, encoders, the run; and what else it needs.

    Labels, a teacher, and each sample's actions, [num_samples, …]. A run that is evaluated has its
    labels' counts, and nothing of the others any more.
    """

    plan: Plan
    encoders: EncoderOptions
    facts: RunFacts
    labels: Labels | None = None
    teacher: Teacher | None = None
    actions: Sequence[Sequence[int]] | None = None


@dataclass(frozen=True)
class Needs:
    """What a method asks of the plan and of the encoders; checked when it is built.

    Attributes:
        least_views: least draws of the factor `augmentation`.
        most_views: most draws of it; None for any number.
        maps: it compares places of feature maps, not one vector a row.
        positives: it compares transformations of a batch with one another, so that each sample
            needs two.
        lab: pictures must be L, a and b (`channels` of their augmentation); a config checks it.
        one_modality: its bank or clusters are of one kind of rows.
        labels: it learns what the samples show.
        teacher: it learns what a classifier, `method.teacher`, says of the samples.
        actions: it learns what is done between the frames of a clip, where that is known.
        why: half a sentence for messages: "MoCo compares a query view with a key view".
    """

    least_views: int = 1
    most_views: int | None = None
    maps: bool = False
    positives: bool = True
    lab: bool = False
    one_modality: bool = False
    labels: bool = False
    teacher: bool = False
    actions: bool = False
    why: str = ""

    def check(self, plan: Plan) -> None:
        """Raise ValueError, saying what the plan must have, when it does not.

        Raises:
            ValueError: fewer or more augmentation draws, or more modalities, than it takes.
        """
        if self.one_modality and len(plan.modalities) > 1:
            raise ValueError(
                f"{self.why}: plan.modality.values must name one modality; "
                f"got {', '.join(plan.modalities)}"
            )
        if self.positives and self.least_views == 1 and plan.num_transformations == 1:
            raise ValueError(
                f"{self.why or 'the method compares transformations of a sample'}: a sample needs "
                'two that may count as the same: set [plan.augmentation] relation = "invariant" '
                "and draws = 2, or give [plan.modality] a second value"
            )
        draws = plan.draws("augmentation")
        too_many = self.most_views is not None and draws > self.most_views
        if draws < self.least_views or too_many:
            count = f"{self.least_views}" + ("" if self.most_views else " or more")
            if self.most_views and self.most_views != self.least_views:
                count = f"{self.least_views} to {self.most_views}"
            raise ValueError(
                f"{self.why}: the plan needs [plan.augmentation] with relation = "
                f'"invariant" and draws = {count}; got {draws} draw{"" if draws == 1 else "s"}'
            )


@dataclass(frozen=True)
class Losses:
    """What a method makes of a batch.

    Attributes:
        total: scalar; over several ranks its mean is the loss of the whole batch, and so is its
            gradient's.
        parts: what it consists of, and other figures worth a curve, by name; each is logged.
    """

    total: Tensor
    parts: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters that the optimizer treats alike.

    Attributes:
        parameters: they; without gradient ones are left out by the optimizer.
        constant_rate: keep the learning rate at its peak, whatever the schedule (SimSiam's
            predictor).
        rate_scale: multiplies the learning rate.
    """

    parameters: Sequence[nn.Parameter]
    constant_rate: bool = False
    rate_scale: float = 1.0


class EmbedDataset(Protocol):
    """Applies a function to every sample of the run's data set, in evaluation order."""

    def __call__(self, embed: "EmbedBatch", *, training: bool = False) -> Mapping[str, Tensor]:
        """Return, by modality, what `embed` gives for each sample: float32 [num_samples, …].

        The same on every rank. A sample that was skipped has zeros.

        Args:
            embed: (modality, values [B, …]) → [B, …], called without gradients.
            training: with the training augmentation and the method in training mode; else middle
                crops and evaluation mode.
        """


class EmbedBatch(Protocol):
    """What `EmbedDataset` applies."""

    def __call__(self, modality: str, values: Tensor) -> Tensor:
        """Return one row for each row of `values`."""


class Method(nn.Module, ABC):
    """A method of self-supervised learning.

    Subclasses set `options_type` and `needs`, build their networks in `__init__` after `super()`,
    and write `forward`. All state that a resumed run needs is parameters and buffers.

    Args:
        options: an instance of `options_type`.
        setting: plan, encoders and facts of the run.

    Raises:
        ValueError: the plan lacks what the method needs.
    """

    options_type: ClassVar[type[MethodOptions]]
    needs: ClassVar[Needs] = Needs()
    #: Whether a batch may go through the encoders in `num_chunks` parts.
    embeds_in_chunks: ClassVar[bool] = False
    num_chunks: int = 1
    #: How `features` differ from an encoder's output, which is all that an exported one gives.
    beyond_encoder: str = ""
    towers: Towers

    def __init__(self, options: MethodOptions, setting: Setting) -> None:
        super().__init__()
        self.needs.check(setting.plan)
        if self.needs.labels and setting.labels is None:
            raise ValueError(f"{self.needs.why}, and those of the samples are not known")
        self.plan, self.facts = setting.plan, setting.facts

    def check_fits(self, key: str, count: int) -> None:
        """Raise ValueError where an option counts more things than there are samples.

        Args:
            key: of `[method]`.
            count: how many.
        """
        if count > self.facts.num_samples:
            raise ValueError(
                f"method.{key} = {count} for {self.facts.num_samples} samples: lower it, or train "
                "on more samples"
            )

    @abstractmethod
    def forward(self, batch: Batch) -> Losses:
        """Return the losses of a batch."""

    def features(self, modality: str, values: Tensor) -> Tensor:
        """Encode rows without the head: what a classifier or kNN takes; see `Towers.features`."""
        return self.towers.features(modality, values)

    def maps(self, modality: str, values: Tensor) -> Tensor:
        """Encode rows place by place: what correspondence is looked for in; see `Towers.maps`."""
        return self.towers.maps(modality, values)

    def embed(self, modality: str, values: Tensor) -> Tensor:
        """Embed rows, L2-normalised: what retrieval compares; see `Towers.embed`."""
        return self.towers.embed(modality, values)

    def parameter_groups(self) -> list[ParameterGroup]:
        """Return the parameters as the optimizer is to treat them."""
        return [ParameterGroup(list(self.parameters()))]

    def before_epoch(self, epoch: int, embed_dataset: EmbedDataset) -> None:
        """Do what an epoch begins with, before its first step: cluster, assign."""

    def after_backward(self, step: int) -> None:
        """Change gradients before the optimizer's step, zero-based over the run."""

    def after_step(self, step: int) -> None:
        """Do what follows the optimizer's step, zero-based over the run: move a momentum copy."""

    @classmethod
    def loss_of_equal_embeddings(cls, plan: Plan, batch_size: int) -> float | None:
        """Return the loss when all embeddings are equal, for the curve; None where none is known.

        Args:
            plan: of the run.
            batch_size: samples of a batch.
        """
        return None
