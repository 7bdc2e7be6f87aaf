"""FAISS beside exact search: flat finds the same, the others say what they lose."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from tools.evaluation import approximate
from tools.evaluation.approximate import build, chosen_kind, read
from tools.evaluation.errors import EvaluationError

pytest.importorskip("faiss")


def unit_vectors(seed: int, count: int) -> npt.NDArray[np.float32]:
    rows = np.random.default_rng(seed).normal(size=(count, 16)).astype(np.float32)
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))


@pytest.mark.parametrize("kind", ["flat", "ivf", "hnsw"])
def test_recall_is_what_a_slow_count_says(tmp_path: Path, kind: str) -> None:
    vectors, queries = unit_vectors(0, 3000), unit_vectors(1, 200)
    index = build(vectors, kind, queries)
    rows, scores = index.search(queries, 10)
    exact = np.argsort(-(queries @ vectors.T), axis=1)[:, :10]
    found = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(rows, exact, strict=True)])
    assert index.recall == pytest.approx(float(found), abs=1e-9)
    assert index.recall >= 0.9
    assert (np.diff(scores, axis=1) <= 1e-6).all()
    assert kind != "flat" or index.recall == 1.0
    path = tmp_path / "video.faiss"
    index.write(path)
    again = read(path, kind, index.recall, vectors.shape)
    np.testing.assert_array_equal(again.search(queries, 10)[0], rows)
    with pytest.raises(EvaluationError, match="an index of 3000 vectors of 16 numbers, and there"):
        read(path, kind, index.recall, (2999, 16))
    path.write_bytes(b"no index")
    with pytest.raises(EvaluationError, match="no FAISS index that can be read"):
        read(path, kind, index.recall, vectors.shape)


def test_the_first_right_item_is_counted_without_the_query_itself() -> None:
    vectors = unit_vectors(0, 300)
    labels = np.arange(300) % 7
    index = build(vectors, "flat", vectors)
    own = np.arange(300)

    def is_right(rows: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        return np.asarray(labels[rows] == labels[:, None])

    found = index.first_right(vectors, 5, is_right, own)
    scores = vectors @ vectors.T
    np.fill_diagonal(scores, -np.inf)
    order = np.argsort(-scores, axis=1)
    slowly = [
        next((place for place in range(5) if labels[row[place]] == labels[n]), 5)
        for n, row in enumerate(order)
    ]
    assert found.tolist() == slowly
    among_all = index.first_right(vectors, 5, lambda rows: rows == own[:, None])
    assert (among_all == 0).all()
    few = build(vectors[:3], "flat", vectors)  # fewer than are asked for: the rest is nothing
    assert (few.first_right(vectors, 5, lambda rows: rows == -1) == 5).all()


def test_the_kind_follows_from_size_and_wish(monkeypatch: pytest.MonkeyPatch) -> None:
    assert chosen_kind("auto", 99_999) == "none"
    assert chosen_kind("auto", 100_000) == "ivf"
    assert chosen_kind("hnsw", 5) == "hnsw"
    with pytest.raises(EvaluationError, match="must be one of none, flat, ivf, hnsw, auto"):
        chosen_kind("tree", 5)
    monkeypatch.setattr(approximate, "_is_installed", lambda: False)
    assert chosen_kind("auto", 100_000) == "none"
    with pytest.raises(EvaluationError, match=r"needs faiss: pip install 'gdt-stream\[faiss\]'"):
        chosen_kind("flat", 5)
