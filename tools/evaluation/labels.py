"""What clips show, and which fold they are in, as the samples' metadata say."""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from shards import Samples
from tools.evaluation.errors import EvaluationError

#: ESC-50's file names: fold, Freesound clip, take, class (Piczak 2015).
_ESC50_NAME: Final = re.compile(r"(?:^|/)(\d)-\d+-[A-Z]-\d+\.\w+$")


def labels_of(dataset: Samples) -> tuple[str, ...]:
    """The labels of all samples, by number.

    Raises:
        EvaluationError: a sample has none.
    """
    labels = labels_if_any(dataset)
    if isinstance(labels, int):
        raise EvaluationError(
            f"sample {dataset.sample(labels).key!r} of {dataset.path} has no label: build the "
            "shards with `gdt shards build … --labels FILE.csv` (columns file,label), lay images "
            "or sounds in subfolders named like their labels, or sounds beside a labels.csv"
        )
    return labels


def labels_if_any(dataset: Samples) -> tuple[str, ...] | int:
    """The labels of all samples, or the number of the first that has none."""
    labels = []
    for number in range(len(dataset)):
        label = dataset.metadata(number).get("label")
        if label is None:
            return number
        labels.append(str(label))
    return tuple(labels)


def folds_of(dataset: Samples, numbers: Iterable[int]) -> tuple[str, ...]:
    """The cross-validation folds of samples: `fold` of their metadata, or of ESC-50's file names.

    Raises:
        EvaluationError: neither says one.
    """
    folds = []
    for number in numbers:
        metadata = dataset.metadata(number)
        fold = _fold(metadata)
        if fold is None:
            raise EvaluationError(
                f"sample {dataset.sample(number).key!r} of {dataset.path} is in no fold: give the "
                "labels file of `gdt shards build` a column fold, keep ESC-50's file names, or "
                "name two data sets with --train and --test"
            )
        folds.append(fold)
    return tuple(folds)


def _fold(metadata: Mapping[str, Any]) -> str | None:
    extra = metadata.get("metadata")
    for place in (metadata, extra if isinstance(extra, Mapping) else {}):
        if place.get("fold") not in (None, ""):
            return str(place["fold"])
    found = _ESC50_NAME.search(str(metadata.get("source", "")))
    return found[1] if found else None


def clip_name(key: str, metadata: Mapping[str, Any]) -> str:
    """A clip by its source and time, "talk.mp4 0:12.0"; by its key where they are not known."""
    source, start = metadata.get("source"), metadata.get("start_seconds")
    if not source:
        return key
    name = str(source).rsplit("/", 1)[-1]
    if isinstance(start, (int, float)):
        return f"{name} {int(start // 60)}:{start % 60:04.1f}"
    return name
