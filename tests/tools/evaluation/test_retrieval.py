"""The retrieval protocol, against a matrix to check by eye and a slow transcription of its rule."""

import itertools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest

from tools.evaluation import retrieval
from tools.evaluation.retrieval import (
    Ranking,
    average_segments,
    chance_metrics,
    rank_pairs,
    top_hits,
)


def slow_recall_and_rank(scores: Sequence[float], right: int, k: int) -> tuple[float, float]:
    """Expectation over every order of the items that keeps higher scores before lower ones."""
    hits, ranks = [], []
    for order in itertools.permutations(range(len(scores))):
        if all(scores[a] >= scores[b] for a, b in itertools.pairwise(order)):
            ranks.append(order.index(right) + 1)
            hits.append(order.index(right) < k)
    return float(np.mean(hits)), float(np.mean(ranks))


def test_a_matrix_to_check_by_eye() -> None:
    # four clips, two segments each, in a plane where every answer can be read off
    audio = np.array([[1, 0], [1, 0], [0, 1], [0, 1], [-1, 0], [-1, 0], [0, -1], [0, -1]])
    clip = [0, 0, 1, 1, 2, 2, 3, 3]
    video = np.array([[1, 0], [1, 0], [0, -1], [0, -1], [-1, 0], [-1, 0], [0, 1], [0, 1]])
    _, a = average_segments(audio, clip)
    _, v = average_segments(video, clip)
    # clips 0 and 2 are found at once; 1 and 3 are each other's, so they come last
    ranking = rank_pairs(a, v)
    assert ranking.above.tolist() == [0, 3, 0, 3]
    assert ranking.equal.tolist() == [0, 0, 0, 0]
    assert ranking.metrics() == {"R@1": 0.5, "R@5": 1.0, "R@10": 1.0, "median rank": 2.5}


def test_four_queries_of_eight_written_out() -> None:
    # rows: queries 0…3 of 8; columns: the 8 gallery items; the right one is on the diagonal
    scores = np.array(
        [
            [9, 1, 2, 3, 4, 5, 6, 7],  # first
            [5, 5, 1, 1, 1, 1, 1, 1],  # first or second: one half
            [7, 8, 3, 9, 3, 1, 1, 1],  # after three, tied with one: 4 or 5
            [9, 9, 9, 0, 9, 9, 9, 9],  # last
        ],
        float,
    )
    above = (scores > np.diag(scores)[:, None]).sum(1)
    equal = (scores == np.diag(scores)[:, None]).sum(1) - 1
    ranking = Ranking(above, equal)
    assert ranking.expected_ranks().tolist() == [1, 1.5, 4.5, 8]
    assert ranking.recall_at(1) == (1 + 0.5 + 0 + 0) / 4
    assert ranking.recall_at(4) == (1 + 1 + 0.5 + 0) / 4
    assert ranking.recall_at(5) == (1 + 1 + 1 + 0) / 4
    assert ranking.recall_at(8) == 1
    assert ranking.median_rank() == 3.0


@pytest.mark.parametrize("seed", range(6))
def test_equals_the_slow_rule_with_many_ties(seed: int) -> None:
    rng = np.random.default_rng(seed)
    queries = rng.integers(-1, 2, (6, 2)).astype(float)
    gallery = rng.integers(-1, 2, (6, 2)).astype(float)
    ranking = rank_pairs(queries, gallery)
    scores = queries @ gallery.T
    for k in (1, 2, 5, 10):
        slow = [slow_recall_and_rank(scores[i].tolist(), i, k) for i in range(6)]
        assert ranking.recall_at(k) == pytest.approx(np.mean([hit for hit, _ in slow]))
        np.testing.assert_allclose(ranking.expected_ranks(), [rank for _, rank in slow])


@pytest.mark.parametrize("num_clips", [1, 2, 7, 64, 1000])
def test_a_constant_embedding_scores_chance(num_clips: int) -> None:
    point = np.random.default_rng(0).normal(size=256)
    same = np.tile((point / np.linalg.norm(point)).astype(np.float32), (num_clips, 1))
    assert rank_pairs(same, same).metrics() == pytest.approx(chance_metrics(num_clips))
    # so does a constant on one side only
    other = np.random.default_rng(1).normal(size=same.shape)
    assert rank_pairs(other, same).metrics() == pytest.approx(chance_metrics(num_clips))


def test_random_embeddings_score_chance_on_average() -> None:
    rng = np.random.default_rng(0)
    got = [rank_pairs(rng.normal(size=(40, 8)), rng.normal(size=(40, 8))) for _ in range(200)]
    chance = chance_metrics(40)
    assert np.mean([r.recall_at(1) for r in got]) == pytest.approx(chance["R@1"], abs=0.01)
    assert np.mean([r.recall_at(10) for r in got]) == pytest.approx(chance["R@10"], abs=0.02)
    assert np.mean([r.median_rank() for r in got]) == pytest.approx(chance["median rank"], abs=1)


def test_perfect_and_reversed() -> None:
    basis = np.eye(20)
    assert rank_pairs(basis, basis).metrics() == {
        "R@1": 1.0,
        "R@5": 1.0,
        "R@10": 1.0,
        "median rank": 1.0,
    }
    assert rank_pairs(basis, -basis).median_rank() == 20


def test_blocks_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    queries, gallery = rng.normal(size=(2, 50, 4))
    whole = rank_pairs(queries, gallery)
    monkeypatch.setattr(retrieval, "_SCORES_AT_ONCE", 150)
    assert rank_pairs(queries, gallery).above.tolist() == whole.above.tolist()


def test_direction_matters() -> None:
    queries = np.array([[1.0, 0.0], [0.9, 0.1]])
    gallery = np.array([[1.0, 0.0], [0.0, 1.0]])
    assert rank_pairs(queries, gallery).recall_at(1) == 0.5
    assert rank_pairs(gallery, queries).recall_at(1) == 1.0


def test_segments_are_averaged_and_scaled_back() -> None:
    segments = np.array([[0.0, 1.0], [1.0, 0.0], [1.0, 0.0], [0.0, -1.0], [0.0, 1.0]])
    clips, embeddings = average_segments(segments, [9, 2, 9, 4, 4])
    assert clips.tolist() == [2, 4, 9]
    half = np.sqrt(0.5)
    np.testing.assert_allclose(embeddings, [[1, 0], [0, 0], [half, half]], atol=1e-7)
    assert embeddings.dtype == np.float32


def test_top_hits_are_in_order_and_stable() -> None:
    rows, scores = top_hits([1.0, 0.0], [[0.0, 1.0], [1.0, 0.0], [0.5, 0.0], [1.0, 0.0]], 3)
    assert rows.tolist() == [1, 3, 2]
    assert scores.tolist() == [1, 1, 0.5]


@pytest.mark.parametrize(
    ("queries", "gallery", "message"),
    [
        (np.zeros((3, 2)), np.zeros((4, 2)), r"queries \[3, 2\] and gallery \[4, 2\]"),
        (np.zeros((0, 2)), np.zeros((0, 2)), "at least one row"),
        (np.zeros(3), np.zeros(3), r"expected the same \[N, D\]"),
        (np.eye(3), np.full((3, 3), np.nan), "3 of 3 gallery hold values that are not finite"),
    ],
)
def test_wrong_input_is_refused(
    queries: npt.NDArray[np.float64], gallery: npt.NDArray[np.float64], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        rank_pairs(queries, gallery)


def test_every_segment_needs_its_clip() -> None:
    with pytest.raises(ValueError, match=r"expected \[R, D\] and \[R\]"):
        average_segments(np.zeros((3, 2)), [0, 1])
