"""Top-k by hand, chance, and clips of one source."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from models import Labels
from tools.evaluation.errors import EvaluationError
from tools.evaluation.tasks.classification import Classification
from tools.evaluation.tasks.labelled import place_of_truth


def test_the_place_of_the_right_class_counts_those_before_it() -> None:
    logits = np.array([[3.0, 1.0, 2.0], [0.0, 5.0, 5.0], [1.0, 1.0, 1.0], [1.0, 1.0, 1.0]])
    places = place_of_truth(logits.astype(np.float32), np.array([2, 2, 0, 2]))
    assert places.tolist() == [1, 1, 0, 2]  # equal logits in the order of the classes


def split(labels: tuple[str, ...], logits: list[list[list[float]]], sources: list[str]) -> Any:
    return SimpleNamespace(
        labels=labels,
        modalities=("video",),
        numbers=np.arange(len(labels)),
        segments=lambda modality: np.array(logits, np.float32),
        dataset=SimpleNamespace(path="clips", metadata=lambda number: {"source": sources[number]}),
    )


def test_logits_are_averaged_and_not_votes() -> None:
    """Two segments of three are for the wrong class, and one is surer of the right one."""
    task = Classification(Labels({"a": 3, "b": 2, "c": 1}))
    test = {"test": split(("b",), [[[1.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 5.0, 0.0]]], ["x"])}
    (score,) = task.score("trained", test)
    assert (score.of, score.metric, score.value) == ("video", "top-1", 1.0)


def test_chance_is_the_most_frequent_labels_of_training() -> None:
    task = Classification(Labels({name: ord(name) for name in "abcdefg"}))
    test = {"test": split(("g", "g", "a", "f"), [], ["x"] * 4)}
    top1, top5 = task.chance(test)
    assert (top1.metric, top1.value) == ("top-1", 0.5)
    assert (top5.metric, top5.value) == ("top-5", 0.75)  # c, d, e, f, g
    assert task.left_out(test) == []


def test_a_label_that_was_not_learned_is_refused() -> None:
    task = Classification(Labels({"a": 1, "b": 1}))
    with pytest.raises(EvaluationError, match=r"has not learned: z; it knows a, b"):
        task.check({"test": split(("a", "z"), [], ["x", "y"])})


def test_clips_of_one_source_are_said_to_be() -> None:
    task = Classification(Labels({"a": 1, "b": 1}))
    apart = {"test": split(("a", "b"), [], ["x", "y"])}
    assert task.check(apart) == []
    together = {"test": split(("a", "b"), [], ["x", "x"])}
    (note,) = task.check(together)
    assert note.startswith("The 2 clips are of 1 sources, and each is answered for by itself.")
