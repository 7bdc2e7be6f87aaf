"""Weighted kNN against a loop over all pairs, by hand, and at its edges."""

import math

import pytest
import torch
import torch.nn.functional as F

from tools.evaluation import neighbors
from tools.evaluation.neighbors import LabelledFeatures, predict


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


def test_a_clip_left_out_does_not_vote_for_itself() -> None:
    both = unit(0, 40, 50, 180)
    assert predict(TRAIN, both, k=1) == ["near", "far", "far", "away"]
    assert predict(TRAIN, both, k=1, leave_self_out=True) == ["far", "far", "far", "far"]
    assert predict(TRAIN, both, k=9, leave_self_out=True)[3] != "away"
    with pytest.raises(ValueError, match="leaving each query out of its own neighbours needs"):
        predict(TRAIN, unit(0), k=1, leave_self_out=True)
    one = LabelledFeatures(unit(0), ("near",))
    with pytest.raises(ValueError, match="1 training clips for 1 queries"):
        predict(one, unit(0), k=1, leave_self_out=True)


def test_blocks_of_queries_do_not_change_the_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    both = unit(0, 40, 50, 180)
    whole = predict(TRAIN, both, k=2, leave_self_out=True)
    monkeypatch.setattr(neighbors, "_QUERIES_AT_ONCE", 3)
    assert predict(TRAIN, both, k=2, leave_self_out=True) == whole


def test_constant_features_find_one_label() -> None:
    """An encoder that maps everything to one point finds a single label."""
    train = LabelledFeatures(torch.ones(12, 1), tuple("abc" * 4))
    for k in (1, 5, 12):
        assert len(set(predict(train, torch.ones(9, 1), k))) == 1


def test_errors_say_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match=r"at least 1; got 0"):
        predict(TRAIN, unit(0), k=0)
    with pytest.raises(ValueError, match=r"must be \[Q, 2\] .* got \[1, 3\]"):
        predict(TRAIN, torch.zeros(1, 3), k=1)
    with pytest.raises(ValueError, match=r"one label a row, got \[2, 2\] for 1 labels"):
        LabelledFeatures(unit(0, 1), ("a",))
