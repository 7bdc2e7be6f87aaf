"""The linear SVM against golden weights and decisions, and the choice of its cost."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tools.evaluation.errors import EvaluationError
from tools.evaluation.tasks.audio_svm import (
    AudioSvm,
    answers_of,
    clip_decisions,
    fit_svm,
    held_out_third,
    learn_and_answer,
)

GOLDEN: dict[str, Any] = json.loads(
    (Path(__file__).parents[1] / "golden_protocols.json").read_text()
)["linear_svm"]


def test_weights_and_clip_decisions_are_the_golden_ones() -> None:
    train = np.array(GOLDEN["train_features"], np.float32)[:, None]
    machine = fit_svm(train, [str(label) for label in GOLDEN["train_labels"]], GOLDEN["C"], 1e-8)
    np.testing.assert_allclose(machine.coef_, GOLDEN["weights"], atol=1e-5)
    np.testing.assert_allclose(machine.intercept_, GOLDEN["intercepts"], atol=1e-5)
    clips = np.array(GOLDEN["test_clip_features_4x3"], np.float32)
    np.testing.assert_allclose(clip_decisions(machine, clips), GOLDEN["mean_decision"], atol=1e-5)
    assert answers_of(machine, clips) == [str(label) for label in GOLDEN["predicted"]]


def test_two_labels_have_one_decision() -> None:
    rows = np.array([[[1.0, 0.0]], [[0.9, 0.1]], [[0.0, 1.0]], [[0.1, 0.9]]], np.float32)
    machine = fit_svm(rows, ["left", "left", "right", "right"], 1.0)
    assert clip_decisions(machine, rows).shape == (4,)
    assert answers_of(machine, rows) == ["left", "left", "right", "right"]


def test_a_third_of_each_label_is_held_out_and_never_an_only_clip() -> None:
    held = held_out_third(["a", "b", "a", "a", "c", "a"])
    assert held.tolist() == [False, False, False, True, False, False]


def test_the_cost_is_chosen_on_held_out_clips(monkeypatch: pytest.MonkeyPatch) -> None:
    """Labels of what is held out are right under a large cost alone."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(90, 1, 6)).astype(np.float32)
    rows[:, 0, 1:] *= 0.02  # what tells the labels apart is small: a small cost does not see it
    labels = np.where(rows[:, 0, 1] > 0, "up", "down")
    asked = np.arange(90) >= 60
    fitted: list[float] = []
    fit = fit_svm

    def noting(segments: Any, names: Any, cost: float) -> Any:
        fitted.append(cost)
        return fit(segments, names, cost)

    monkeypatch.setattr("tools.evaluation.tasks.audio_svm.fit_svm", noting)
    answers = learn_and_answer(
        rows[~asked], labels[~asked], held_out_third(labels[~asked].tolist()), rows[asked]
    )
    assert fitted[-1] == 1.0
    assert (np.array(answers) == labels[asked]).mean() > 0.6


@pytest.mark.parametrize(
    ("folds", "labels", "message"),
    [
        ("1 1 1 1", "a b a b", r"sounds: its clips are in 1 fold; one is the test"),
        ("1 2 2 1", "a b a b", r"sounds: its clips are in 2 folds; one is"),
        ("1 2 3 3", "a a a b", r"sounds: all clips of 'b' are in fold 3, so that what learns"),
        ("1 2 3 3", "a a a a", r"sounds: all clips have the one label 'a'"),
    ],
)
def test_folds_that_cannot_answer_one_another_are_refused(
    folds: str, labels: str, message: str
) -> None:
    split: Any = SimpleNamespace(
        dataset=SimpleNamespace(path="sounds"),
        folds=tuple(folds.split()),
        labels=tuple(labels.split()),
        modalities=("audio",),
    )
    with pytest.raises(EvaluationError, match=message):
        AudioSvm().check({"test": split})
