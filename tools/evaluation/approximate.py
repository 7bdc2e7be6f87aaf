"""Approximate search by FAISS, with what it loses measured. The only file that imports faiss.

Legend: N clips, D numbers of a vector, Q queries.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from tools.evaluation.errors import EvaluationError

Vectors = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]

KINDS: Final = ("none", "flat", "ivf", "hnsw", "auto")
#: "auto": from so many clips on an inverted file, below it exact search.
LARGE: Final = 100_000
_SAMPLED, _DEPTH, _WANTED_RECALL = 500, 10, 0.95
_TRAINING_POINTS_A_LIST = 64


@dataclass(frozen=True)
class Approximate:
    """A FAISS index of vectors, by inner product.

    Attributes:
        kind: "flat" (exact), "ivf" (inverted file) or "hnsw" (graph).
        index: FAISS's.
        recall: share of the exact 10 nearest that it finds, on up to 500 of the queries' vectors.
    """

    kind: str
    index: Any
    recall: float

    def search(self, queries: Vectors, k: int) -> tuple[Integers, Vectors]:
        """The k nearest it finds, [Q, k] rows and scores, best first; −1 where it finds fewer."""
        scores, rows = self.index.search(np.ascontiguousarray(queries, np.float32), k)
        return rows.astype(np.int64), scores

    def first_right(
        self,
        queries: Vectors,
        depth: int,
        is_right: Callable[[Integers], npt.NDArray[np.bool_]],
        own: Integers | None = None,
    ) -> Integers:
        """Place of each query's first right item among what it finds: [Q], from 0; depth: none.

        Args:
            queries: [Q, D].
            depth: how many places count.
            is_right: of rows [Q, k] (−1: none), which are right.
            own: the row that a query is itself, and which takes no place: [Q].
        """
        rows, _ = self.search(queries, depth + (own is not None))
        right = is_right(rows) & (rows >= 0)
        counted = np.ones_like(right) if own is None else rows != own[:, None]
        places = np.where(right & counted, counted.cumsum(axis=1) - 1, depth)
        return np.asarray(np.minimum(places.min(axis=1), depth))

    def lost(self) -> str:
        """What is lost by it, in words."""
        return f"{100 * (1 - self.recall):.1f} % of the exact {_DEPTH} nearest lost"

    def write(self, path: Path) -> None:
        """Write FAISS's file."""
        _faiss().write_index(self.index, str(path))


def chosen_kind(asked: str, num_clips: int) -> str:
    """What is built: "auto" looks at the number of clips, and whether faiss is installed.

    Raises:
        EvaluationError: no such kind, or faiss is asked for and not installed.
    """
    if asked not in KINDS:
        raise EvaluationError(f"--faiss {asked}: must be one of {', '.join(KINDS)}")
    if asked == "auto":
        return "ivf" if num_clips >= LARGE and _is_installed() else "none"
    if asked != "none" and not _is_installed():
        raise EvaluationError(
            f"--faiss {asked} needs faiss: pip install 'gdt-stream[faiss]', or use --faiss none"
        )
    return asked


def build(vectors: Vectors, kind: str, queries: Vectors) -> Approximate:
    """Build an index of vectors [N, D], and measure it on queries like those it will get.

    Of an inverted file so many lists are visited that 95 % of the nearest are found, or all.
    """
    from tools.evaluation.ranking import Scorer, Side, search  # torch, for who builds

    faiss = _faiss()
    size, num_clips = vectors.shape[1], len(vectors)
    if kind == "flat":
        index = faiss.IndexFlatIP(size)
    elif kind == "hnsw":
        index = faiss.IndexHNSWFlat(size, 32, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction, index.hnsw.efSearch = 80, 128
    else:
        lists = max(1, min(round(4 * num_clips**0.5), num_clips // 8))
        index = faiss.IndexIVFFlat(faiss.IndexFlatIP(size), size, lists, faiss.METRIC_INNER_PRODUCT)
        points = np.random.default_rng(0).permutation(num_clips)[: lists * _TRAINING_POINTS_A_LIST]
        index.train(np.ascontiguousarray(vectors[np.sort(points)], np.float32))
    for first in range(0, num_clips, 65_536):  # a mapped file is not read at once
        index.add(np.ascontiguousarray(vectors[first : first + 65_536], np.float32))
    sampled = _sample(queries)
    exact, _ = search(Scorer(Side(sampled[:, None]), Side(vectors[:, None])), _DEPTH)
    found = Approximate(kind, index, _recall(index, sampled, exact))
    while kind == "ivf" and found.recall < _WANTED_RECALL and index.nprobe < index.nlist:
        index.nprobe = min(2 * index.nprobe, index.nlist)
        found = Approximate(kind, index, _recall(index, sampled, exact))
    return found


def read(path: Path, kind: str, recall: float, shape: Sequence[int]) -> Approximate:
    """Read what `write` wrote, for vectors of a shape.

    Raises:
        EvaluationError: it cannot be read, or is an index of other vectors.
    """
    if not _is_installed():
        raise EvaluationError(
            f"{path} is a FAISS index, and faiss is not installed: pip install "
            "'gdt-stream[faiss]', or search exactly with --exact"
        )
    try:
        index = _faiss().read_index(str(path))
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1][-200:]
        raise EvaluationError(f"{path}: no FAISS index that can be read: {reason}") from error
    if (index.ntotal, index.d) != tuple(shape):
        raise EvaluationError(
            f"{path} is an index of {index.ntotal} vectors of {index.d} numbers, and there are "
            f"{shape[0]} of {shape[1]} beside it; run `gdt embed` again"
        )
    return Approximate(kind, index, recall)


def _sample(queries: Vectors) -> Vectors:
    rows = np.random.default_rng(0).permutation(len(queries))[:_SAMPLED]
    return np.ascontiguousarray(queries[np.sort(rows)], np.float32)


def _recall(index: Any, queries: Vectors, exact: Integers) -> float:
    _, rows = index.search(queries, exact.shape[1])
    shared = [len(np.intersect1d(a, b)) for a, b in zip(rows, exact, strict=True)]
    return float(np.sum(shared) / exact.size)


def _is_installed() -> bool:
    from importlib.util import find_spec

    return find_spec("faiss") is not None


def _faiss() -> Any:
    import faiss

    return faiss
