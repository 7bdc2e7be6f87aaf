"""An embedded data set as tasks see it: the vectors of its clips, and what the clips show."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from shards import Samples
from tools.evaluation.clip_store import ClipStore
from tools.evaluation.errors import EvaluationError
from tools.evaluation.labels import folds_of

Vectors = npt.NDArray[np.float32]
_CLIPS_AT_ONCE = 8192


@dataclass(frozen=True)
class Split:
    """A data set embedded by one encoder.

    Attributes:
        dataset: where its clips lie.
        store: their vectors.
        all_labels: of every sample of the data set, by number; None where some have none.
    """

    dataset: Samples
    store: ClipStore
    all_labels: tuple[str, ...] | None = None

    @cached_property
    def numbers(self) -> npt.NDArray[np.int64]:
        """Numbers in the data set of the clips that were embedded, rising: [N]."""
        return np.array(sorted(self.store.clips), np.int64)

    @cached_property
    def keys(self) -> tuple[str, ...]:
        """The clips' keys, N."""
        return tuple(self.store.clips[number].key for number in self.numbers.tolist())

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """The clips' labels, N; see `has_labels`."""
        assert self.all_labels is not None
        return tuple(self.all_labels[number] for number in self.numbers.tolist())

    @property
    def has_labels(self) -> bool:
        """Whether every clip has a label."""
        return self.all_labels is not None

    @cached_property
    def folds(self) -> tuple[str, ...]:
        """The clips' folds, N.

        Raises:
            EvaluationError: a clip has none.
        """
        return folds_of(self.dataset, self.numbers.tolist())

    @property
    def modalities(self) -> tuple[str, ...]:
        """What there are vectors of."""
        return tuple(self.store.facts["modalities"])

    def segments(self, modality: str) -> Vectors:
        """One vector a segment: float32 [N, S, D]; mapped where no clip was skipped."""
        vectors = self.store.vectors(modality)
        return vectors if len(self.numbers) == len(vectors) else vectors[self.numbers]

    def means(self, modality: str) -> Vectors:
        """One vector a clip: the mean of its segments', each of length 1, scaled back to length 1.

        float32 [N, D]. A mean of exactly zero stays zero: it is equally near to everything.
        """
        return unit_rows(mean_of_segments(self.segments(modality), unit=True))

    def is_same_as(self, other: "Split") -> bool:
        """Whether both are the same clips."""
        return self.dataset.fingerprint == other.dataset.fingerprint


def mean_of_segments(segments: Vectors, *, unit: bool = False) -> Vectors:
    """The mean over segments, [N, S, D] → float32 [N, D], of whatever length it has.

    Args:
        segments: may be mapped from a file larger than memory.
        unit: scale each segment's vector to length 1 first.
    """
    means = np.empty((len(segments), segments.shape[2]), np.float32)
    for first in range(0, len(segments), _CLIPS_AT_ONCE):
        block = np.asarray(segments[first : first + _CLIPS_AT_ONCE])
        rows = unit_rows(block) if unit else block
        means[first : first + _CLIPS_AT_ONCE] = rows.mean(axis=1, dtype=np.float64)
    return means


def unit_rows(rows: Vectors) -> Vectors:
    """Rows scaled to length 1; rows of zeros stay zeros."""
    lengths = np.linalg.norm(rows, axis=-1, keepdims=True)
    return np.asarray(rows / np.where(lengths > 0, lengths, 1), np.float32)


def check_labels(splits: Mapping[str, Split]) -> None:
    """Refuse test labels that no training clip has.

    Raises:
        EvaluationError: there are some, or a clip has no label.
    """
    train, test = splits["train"], splits["test"]
    unknown = sorted(set(test.labels) - set(train.labels))
    if unknown:
        raise EvaluationError(
            f"{test.dataset.path} has labels that {train.dataset.path} has not: "
            f"{', '.join(unknown[:5])}; there are {', '.join(sorted(set(train.labels))[:20])}"
        )


def check_apart(splits: Mapping[str, Split], task: str) -> None:
    """Refuse a classifier's test on the clips that it was fitted to.

    Raises:
        EvaluationError: both data sets are the same.
    """
    if splits["train"].is_same_as(splits["test"]):
        raise EvaluationError(
            f"--train {splits['train'].dataset.path} and --test {splits['test'].dataset.path} are "
            f"the same clips: {task} would be asked for what it was told. Hold clips out, or use "
            "`gdt evaluate knn`, which leaves each clip itself out"
        )
