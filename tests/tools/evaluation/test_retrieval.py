"""Ranks and measures: by eye, against slow transcriptions of the tie rule, and golden numbers."""

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tools.evaluation import ranking, retrieval
from tools.evaluation.chance import chance_metrics
from tools.evaluation.protocol import load_protocol
from tools.evaluation.ranking import Scorer, Side, prepared, search
from tools.evaluation.retrieval import Ranking, rank_labels, rank_pairs

GOLDEN: dict[str, Any] = json.loads((Path(__file__).parent / "golden_protocols.json").read_text())
METRICS = ("R@1", "R@5", "R@10", "median rank", "mean rank", "MRR", "mAP", "nDCG@10")


def scorer_of(queries: npt.ArrayLike, gallery: npt.ArrayLike) -> Scorer:
    ours, theirs = (Side(np.asarray(rows, np.float32)[:, None]) for rows in (queries, gallery))
    return Scorer(ours, theirs)


def rank_own(queries: npt.ArrayLike, gallery: npt.ArrayLike) -> Ranking:
    return rank_pairs(scorer_of(queries, gallery), np.arange(len(np.asarray(queries))))


def instance_ranking(above: Sequence[int], equal: Sequence[int], num_items: int) -> Ranking:
    ones = np.ones(len(above), np.int64)
    return Ranking(np.array(above), np.array(equal), ones, ones * num_items, ones)


def slow_values(scores: Sequence[float], right: Sequence[bool]) -> dict[str, float]:
    """Expectation over every order of the items that keeps higher scores before lower ones."""
    found: dict[str, list[float]] = {metric: [] for metric in METRICS}
    for order in itertools.permutations(range(len(scores))):
        if any(scores[a] < scores[b] for a, b in itertools.pairwise(order)):
            continue
        hits = [right[item] for item in order]
        first = hits.index(True) + 1
        for k in (1, 5, 10):
            found[f"R@{k}"].append(first <= k)
        found["mean rank"].append(first)
        found["median rank"].append(first)
        found["MRR"].append(1 / first)
        precisions = [sum(hits[: i + 1]) / (i + 1) for i, hit in enumerate(hits) if hit]
        found["mAP"].append(sum(precisions) / len(precisions))
        ideal = sum(1 / np.log2(2 + i) for i in range(min(sum(hits), 10)))
        gain = sum(hit / np.log2(2 + i) for i, hit in enumerate(hits[:10]))
        found["nDCG@10"].append(gain / ideal)
    return {metric: float(np.mean(values)) for metric, values in found.items()}


def test_a_matrix_to_check_by_eye() -> None:
    audio = [[1, 0], [0, 1], [-1, 0], [0, -1]]
    video = [[1, 0], [0, -1], [-1, 0], [0, 1]]
    # clips 0 and 2 are found at once; 1 and 3 are each other's, so they come last
    found = rank_own(audio, video)
    assert found.above.tolist() == [0, 3, 0, 3]
    assert found.equal.tolist() == [0, 0, 0, 0]
    assert found.summary(["R@1", "R@5", "median rank", "mean rank", "MRR"]) == {
        "R@1": 0.5,
        "R@5": 1.0,
        "median rank": 2.5,
        "mean rank": 2.5,
        "MRR": 0.625,
    }


def test_four_queries_of_eight_written_out() -> None:
    # first; first or second; after three, tied with one: 4 or 5; last
    found = instance_ranking([0, 0, 3, 7], [0, 1, 1, 0], 8)
    assert found.ranks().tolist() == [1, 1.5, 4.5, 8]
    shares = {f"R@{k}": found.summary([f"R@{k}"])[f"R@{k}"] for k in (1, 4, 5, 8)}
    assert shares == {"R@1": 1.5 / 4, "R@4": 2.5 / 4, "R@5": 0.75, "R@8": 1.0}
    assert found.summary(["median rank"]) == {"median rank": 3.0}
    assert found.ranks("optimistic").tolist() == [1, 1, 4, 8]
    assert found.ranks("pessimistic").tolist() == [1, 2, 5, 8]
    assert found.values("R@1", "optimistic").tolist() == [1, 1, 0, 0]
    assert found.ranks("every tied").tolist() == [1, 1, 2, 4, 5, 8]


@pytest.mark.parametrize("seed", range(6))
def test_instances_equal_the_slow_rule_with_many_ties(seed: int) -> None:
    rng = np.random.default_rng(seed)
    queries, gallery = rng.integers(-1, 2, (2, 6, 2))
    found = rank_own(queries, gallery)
    scores = queries @ gallery.T
    slow = [slow_values(scores[i].tolist(), (np.arange(6) == i).tolist()) for i in range(6)]
    for metric in METRICS:
        np.testing.assert_allclose(found.values(metric), [row[metric] for row in slow], atol=1e-9)


@pytest.mark.parametrize("seed", range(6))
def test_labels_equal_the_slow_rule_with_many_ties(seed: int) -> None:
    rng = np.random.default_rng(seed)
    queries, gallery = rng.integers(-1, 2, (5, 2)), rng.integers(-1, 2, (6, 2))
    labels, known = rng.integers(0, 2, 5), np.array([0, 0, 0, 1, 1, 1])
    found = rank_labels(scorer_of(queries, gallery), labels, known, metrics=METRICS)
    scores = queries @ gallery.T
    slow = [slow_values(scores[i].tolist(), (known == labels[i]).tolist()) for i in range(5)]
    for metric in METRICS:
        np.testing.assert_allclose(found.values(metric), [row[metric] for row in slow], atol=1e-9)


def test_a_query_is_left_out_of_its_own_items(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrieval, "_SCORES_AT_ONCE", 8)  # two queries at once
    rows = np.array([[1, 0], [0.9, 0.1], [0, 1], [0.1, 0.9]])
    found = rank_labels(
        scorer_of(rows, rows), [0, 0, 1, 1], [0, 0, 1, 1], left_out=np.arange(4), metrics=["mAP"]
    )
    assert found.summary(["R@1", "mAP", "mean rank"]) == {"R@1": 1, "mAP": 1, "mean rank": 1}
    assert found.num_items.tolist() == [3, 3, 3, 3]
    assert found.num_right.tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize("num_clips", [1, 2, 7, 64, 1000])
def test_a_constant_embedding_scores_chance(num_clips: int) -> None:
    point = np.random.default_rng(0).normal(size=256)
    same = np.tile((point / np.linalg.norm(point)).astype(np.float32), (num_clips, 1))
    other = np.random.default_rng(1).normal(size=same.shape)
    for queries in (same, other):
        found = rank_own(queries, same)
        assert found.summary(METRICS) == pytest.approx(chance_metrics(found, METRICS))


def test_a_constant_embedding_scores_chance_by_label() -> None:
    same, labels = np.ones((30, 4)), np.arange(30) % 7
    found = rank_labels(
        scorer_of(same, same), labels, labels, left_out=np.arange(30), metrics=METRICS
    )
    assert found.summary(METRICS) == pytest.approx(chance_metrics(found, METRICS))


def test_random_embeddings_score_chance_on_average() -> None:
    rng = np.random.default_rng(0)
    got = [rank_own(rng.normal(size=(40, 8)), rng.normal(size=(40, 8))) for _ in range(200)]
    chance = chance_metrics(got[0], METRICS)
    for metric, tolerance in (("R@1", 0.01), ("R@10", 0.02), ("MRR", 0.01), ("mean rank", 0.5)):
        mean = np.mean([found.summary([metric])[metric] for found in got])
        assert mean == pytest.approx(chance[metric], abs=tolerance)


def test_blocks_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    queries, gallery = rng.normal(size=(2, 50, 4))
    whole = rank_own(queries, gallery)
    monkeypatch.setattr(ranking, "_QUERIES_AT_ONCE", 7)
    monkeypatch.setattr(ranking, "_ITEMS_AT_ONCE", 9)
    assert rank_own(queries, gallery).above.tolist() == whole.above.tolist()


def test_direction_matters() -> None:
    queries, gallery = [[1.0, 0.0], [0.9, 0.1]], [[1.0, 0.0], [0.0, 1.0]]
    assert rank_own(queries, gallery).summary(["R@1"]) == {"R@1": 0.5}
    assert rank_own(gallery, queries).summary(["R@1"]) == {"R@1": 1.0}


@pytest.mark.parametrize("name", ["selavi", "paper", "coclr"])
def test_class_level_presets_give_the_published_codes_numbers(name: str) -> None:
    golden, protocol = GOLDEN["class_level"], load_protocol(name)
    queries, gallery = (
        np.array(golden[key], np.float32)
        for key in ("query_clip_features_12x2", "gallery_clip_features_60x2")
    )
    scorer = Scorer(
        prepared(queries, protocol, is_query=True), prepared(gallery, protocol, is_query=False)
    )
    found = rank_labels(scorer, golden["query_labels"], golden["gallery_labels"])
    expected = (
        golden["coclr"]["recall"]
        if name == "coclr"
        else {k: share / 100 for k, share in golden["selavi"]["recall_percent"].items()}
    )
    got = found.summary(protocol.metrics)
    assert got == pytest.approx({f"R@{k}": share for k, share in expected.items()}, abs=1e-6)
    top = golden["coclr" if name == "coclr" else "selavi"]["top5_gallery_index"]
    np.testing.assert_array_equal(search(scorer, 5)[0], top)


def test_cavmae_gives_the_published_codes_numbers() -> None:
    golden, protocol = GOLDEN["instance_level"], load_protocol("cavmae")
    sides = {name: np.array(golden[name], np.float32)[:, None] for name in ("audio", "video")}
    for a, b in (("audio", "video"), ("video", "audio")):
        scorer = Scorer(
            prepared(sides[a], protocol, is_query=True),
            prepared(sides[b], protocol, is_query=False),
        )
        got = rank_pairs(scorer, np.arange(8)).summary(protocol.metrics, protocol.ties)
        expected = golden[f"{a}_to_{b}"]
        assert list(got.values()) == pytest.approx([expected[n] for n in ("R1", "R5", "R10", "MR")])


def test_cavmaes_ties_are_counted_as_its_code_counts_them() -> None:
    golden = GOLDEN["instance_level"]["with_ties"]
    found = rank_own(golden["similarity"], np.eye(8))  # inner products with unit vectors
    got = found.summary(["R@1", "R@5", "R@10", "median rank"], "every tied")
    expected = [golden["reference_result"][name] for name in ("R1", "R5", "R10", "MR")]
    assert list(got.values()) == pytest.approx(expected)
    assert (found.ranks("optimistic") - 1).tolist() == golden["rank_optimistic"]
    assert (found.ranks("pessimistic") - 1).tolist() == golden["rank_pessimistic"]


def test_wrong_answers_and_labels_are_refused() -> None:
    scorer = scorer_of(np.eye(3), np.eye(3))
    with pytest.raises(ValueError, match=r"\[2\] right answers for 3 queries and 3 items"):
        rank_pairs(scorer, np.arange(2))
    with pytest.raises(ValueError, match=r"labels \[2\] and \[3\] for 3 queries"):
        rank_labels(scorer, [0, 1], [0, 1, 2])
    with pytest.raises(ValueError, match="query 1 has no item of its label to find"):
        rank_labels(scorer, [0, 9, 1], [0, 1, 2])
    with pytest.raises(ValueError, match="no metric 'recall'"):
        rank_pairs(scorer, np.arange(3)).values("recall")
