"""Scores in blocks against the whole matrix in float64, for every way of a protocol."""

import dataclasses

import numpy as np
import numpy.typing as npt
import pytest

from tools.evaluation import ranking
from tools.evaluation.protocol import Protocol, load_protocol
from tools.evaluation.ranking import Scorer, Side, prepared, search

Vectors = npt.NDArray[np.float32]


def random_segments(seed: int, clips: int, segments: int = 3, size: int = 5) -> Vectors:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(clips, segments, size)).astype(np.float32)


def side(rows: npt.ArrayLike) -> Side:
    return Side(np.asarray(rows, np.float32)[:, None])


def slow_scores(queries: Vectors, gallery: Vectors, protocol: Protocol) -> npt.NDArray[np.float64]:
    """The protocol's words, one pair of clips at a time."""

    def unit(rows: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return np.asarray(rows / np.linalg.norm(rows, axis=-1, keepdims=True))

    sides = []
    for segments in (queries.astype(float), gallery.astype(float)):
        rows = unit(segments) if protocol.normalize_segments else segments
        if protocol.aggregation == "mean of embeddings":
            rows = rows.mean(axis=1, keepdims=True)
        if protocol.centring == "own set":
            rows = rows - rows.mean(axis=(0, 1))
        if protocol.similarity == "cosine":
            rows = unit(rows)
        sides.append(rows)
    scores = np.empty((len(queries), len(gallery)))
    for i, query in enumerate(sides[0]):
        for j, item in enumerate(sides[1]):
            if protocol.similarity == "euclidean":
                pairs = -np.linalg.norm(query[:, None] - item[None], axis=-1)
            else:
                pairs = query @ item.T
            scores[i, j] = {
                "mean of embeddings": pairs.mean(),
                "mean of similarities": pairs.mean(),
                "max of similarities": pairs.max(),
                "diagonal of similarities": np.diag(pairs).mean(),
            }[protocol.aggregation]
    return scores


@pytest.mark.parametrize("centring", ["none", "own set"])
@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize(
    ("aggregation", "similarity"),
    [
        ("mean of embeddings", "cosine"),
        ("mean of embeddings", "dot"),
        ("mean of embeddings", "euclidean"),
        ("mean of similarities", "cosine"),
        ("max of similarities", "cosine"),
        ("max of similarities", "dot"),
        ("diagonal of similarities", "dot"),
    ],
)
def test_every_protocol_orders_as_its_words_say(
    aggregation: str, similarity: str, normalize: bool, centring: str
) -> None:
    protocol = dataclasses.replace(
        load_protocol("default"),
        aggregation=aggregation,  # type: ignore[arg-type]
        similarity=similarity,  # type: ignore[arg-type]
        normalize_segments=normalize,
        centring=centring,  # type: ignore[arg-type]
    )
    queries, gallery = random_segments(1, 7), random_segments(2, 11)
    scorer = Scorer(
        prepared(queries, protocol, is_query=True), prepared(gallery, protocol, is_query=False)
    )
    found = scorer.block(slice(0, 7), slice(0, 11)).numpy()
    slow = slow_scores(queries, gallery, protocol)
    np.testing.assert_array_equal(np.argsort(found, axis=1), np.argsort(slow, axis=1))
    if similarity != "euclidean":
        np.testing.assert_allclose(found, slow, atol=1e-5)
    items = np.arange(7)
    np.testing.assert_allclose(
        scorer.pairs(slice(0, 7), items).numpy(), found[np.arange(7), items], atol=1e-6
    )


def test_dual_softmax_equals_the_whole_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranking, "_QUERIES_AT_ONCE", 4)
    monkeypatch.setattr(ranking, "_ITEMS_AT_ONCE", 5)
    rng = np.random.default_rng(0)
    queries, gallery = rng.normal(size=(9, 6)) / 3, rng.normal(size=(12, 6)) / 3
    scorer = Scorer(side(queries), side(gallery), dual_softmax=5.0)
    plain = queries @ gallery.T
    weights = np.exp(5 * plain) / np.exp(5 * plain).sum(axis=0, keepdims=True)
    found = scorer.block(slice(0, 9), slice(0, 12)).numpy()
    np.testing.assert_allclose(found, plain * weights, atol=1e-6)
    own = scorer.pairs(slice(2, 6), np.array([0, 11, 3, 3])).numpy()
    np.testing.assert_allclose(own, found[[2, 3, 4, 5], [0, 11, 3, 3]], atol=1e-6)


@pytest.mark.parametrize("k", [1, 4, 30, 100])
def test_search_finds_the_best_in_order(monkeypatch: pytest.MonkeyPatch, k: int) -> None:
    monkeypatch.setattr(ranking, "_QUERIES_AT_ONCE", 4)
    monkeypatch.setattr(ranking, "_ITEMS_AT_ONCE", 8)
    rng = np.random.default_rng(5)
    queries, gallery = rng.normal(size=(10, 6)), rng.normal(size=(50, 6))
    rows, scores = search(Scorer(side(queries), side(gallery)), k)
    whole = queries @ gallery.T
    order = np.argsort(-whole, axis=1)[:, :k]
    np.testing.assert_array_equal(rows, order)
    np.testing.assert_allclose(scores, np.take_along_axis(whole, order, 1), atol=1e-5)


def test_of_equal_hits_the_first_in_the_gallery_comes_first() -> None:
    rows, scores = search(
        Scorer(side([[1, 0]]), side(np.array([[0, 1], [1, 0], [0.5, 0], [1, 0]]))), 3
    )
    assert rows.tolist() == [[1, 3, 2]]
    assert scores.tolist() == [[1, 1, 0.5]]


@pytest.mark.parametrize(
    ("queries", "gallery", "message"),
    [
        (np.zeros((0, 2)), np.zeros((3, 2)), "at least one row"),
        (np.zeros((3, 2)), np.zeros((3, 4)), r"gallery \[3, 1, 4\], queries \[3, 1, 2\]"),
        (np.eye(3), np.full((3, 3), np.nan), "row 0 of the gallery holds values that are not"),
    ],
)
def test_wrong_input_is_refused(
    queries: npt.NDArray[np.float64], gallery: npt.NDArray[np.float64], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Scorer(side(queries), side(gallery))
