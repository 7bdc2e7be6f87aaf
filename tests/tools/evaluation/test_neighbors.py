"""Weighted kNN against a loop over all pairs, by hand, and at its edges."""

import math

import pytest
import torch
import torch.nn.functional as F

from tools.evaluation.neighbors import LabelledFeatures, accuracies, chance, predict


def unit(*degrees: float) -> torch.Tensor:
    """Points of the circle."""
    angles = torch.tensor(degrees, dtype=torch.float64).deg2rad()
    return torch.stack([angles.cos(), angles.sin()], dim=1)


TRAIN = LabelledFeatures(unit(0, 40, 50, 180), ("near", "far", "far", "away"))


def test_the_nearest_one_decides_for_k_1() -> None:
    assert predict(TRAIN, unit(1, 44, 170), k=1) == ["near", "far", "away"]


def test_votes_are_weighted_by_similarity() -> None:
    """At 10° one neighbour at 10° outvotes two at 30° and 40°, at τ = 0.07; at τ = 10 not."""
    one = math.exp(math.cos(math.radians(10)) / 0.07)
    two = math.exp(math.cos(math.radians(30)) / 0.07) + math.exp(math.cos(math.radians(40)) / 0.07)
    assert one > two
    assert predict(TRAIN, unit(10), k=3) == ["near"]
    assert predict(TRAIN, unit(10), k=3, temperature=10) == ["far"]


def test_against_a_loop_over_all_pairs() -> None:
    generator = torch.Generator().manual_seed(0)
    features = F.normalize(torch.randn(60, 8, generator=generator), dim=1)
    queries = F.normalize(torch.randn(20, 8, generator=generator), dim=1)
    names = [f"label {i}" for i in torch.randint(5, (60,), generator=generator).tolist()]
    train = LabelledFeatures(features, tuple(names))
    for k in (1, 7, 60):
        expected = []
        for query in queries.tolist():
            similarity = [
                sum(a * b for a, b in zip(query, row, strict=True)) for row in features.tolist()
            ]
            votes: dict[str, float] = {}
            for i in sorted(range(60), key=lambda i: -similarity[i])[:k]:
                votes[names[i]] = votes.get(names[i], 0.0) + math.exp(similarity[i] / 0.07)
            expected.append(max(votes, key=lambda name: votes[name]))
        assert predict(train, queries, k) == expected


def test_k_beyond_the_training_clips_takes_them_all() -> None:
    assert predict(TRAIN, unit(10), k=1000) == predict(TRAIN, unit(10), k=4)


def test_accuracy_counts_each_k() -> None:
    test = LabelledFeatures(unit(10, 45), ("far", "far"))
    assert accuracies(TRAIN, test, (1, 3)) == {1: 0.5, 3: 0.5}


def test_constant_features_score_one_label() -> None:
    """An encoder that maps everything to one point finds a single label."""
    train = LabelledFeatures(torch.ones(12, 1), tuple("abc" * 4))
    test = LabelledFeatures(torch.ones(9, 1), tuple("abc" * 3))
    assert accuracies(train, test, (1, 5, 12)) == {k: pytest.approx(1 / 3) for k in (1, 5, 12)}


def test_chance_always_answers_the_most_frequent_label() -> None:
    assert chance(("a", "b", "b"), ("a", "b", "a", "a")) == 0.25


def test_errors_say_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match=r"at least 1; got 0"):
        predict(TRAIN, unit(0), k=0)
    with pytest.raises(ValueError, match=r"must be \[Q, 2\] .* got \[1, 3\]"):
        predict(TRAIN, torch.zeros(1, 3), k=1)
    with pytest.raises(ValueError, match=r"no training clip has: new; .* away, far, near"):
        accuracies(TRAIN, LabelledFeatures(unit(0), ("new",)), (1,))
    with pytest.raises(ValueError, match=r"one label a row, got \[2, 2\] for 1 labels"):
        LabelledFeatures(unit(0, 1), ("a",))
