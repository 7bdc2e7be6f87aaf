"""The validation scores of a run, RUN/logs/validation.csv: a line each, over all attempts.

The score called "watched" of a validation decides which checkpoint is the best.
"""

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

WATCHED = "watched"
_HEADER = ("step", "epoch", "of", "metric", "value")


class ValidationScore(NamedTuple):
    """One score: after so many steps and epochs, of a modality or direction."""

    step: int
    epoch: int
    of: str
    metric: str
    value: float


def read_scores(path: Path) -> list[ValidationScore]:
    """All scores so far; none where there is no file. Lines that are none are left out."""
    if not path.exists():
        return []
    scores = []
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.reader(file):
            try:
                step, epoch, of, metric, value = row
                scores.append(ValidationScore(int(step), int(epoch), of, metric, float(value)))
            except ValueError:  # the header, or what a full disk left of a line
                continue
    return scores


def write_scores(path: Path, scores: Iterable[ValidationScore]) -> None:
    """Write the whole file, atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    with partial.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(_HEADER)
        writer.writerows(scores)
    partial.replace(path)


def best_score(scores: Iterable[ValidationScore]) -> ValidationScore | None:
    """The highest watched one, the first where several are; None where there is none."""
    watched = [score for score in scores if score.metric == WATCHED]
    return max(watched, key=lambda score: (score.value, -score.step), default=None)
