"""Cross-modal retrieval: given one modality of a clip, find the other among all clips.

    segment embeddings [R, D] ─ mean over a clip, re-normalised ─► [N, D] for each modality
    ─► scores [N, N] ─► rank of the right one ─► R@1, R@5, R@10, median rank

Query i's right answer is gallery item i. Rank 1 is best. The tie rule: equal scores are in random
order, and what is reported is the expectation over those orders; g items above the right one and e
others equal to it give R@k = clip(k − g, 0, e + 1) / (e + 1) and rank g + 1 + e / 2. So an encoder
that maps everything to one point scores chance (k / N), never 100 %.

Legend: R segments, N clips, D embedding.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

RECALLS_AT = (1, 5, 10)
#: Scores nearer than this are equal: unit vectors in float32 do not tell them apart.
TIE_TOLERANCE = 1e-6
_SCORES_AT_ONCE = 1 << 24


@dataclass(frozen=True)
class Ranking:
    """Where each query's right answer stands.

    Args:
        above: int64 [N], items with a higher score than the right one.
        equal: int64 [N], other items with the same score.
    """

    above: Integers
    equal: Integers

    def expected_ranks(self) -> Floats:
        """Expected rank of each query's right answer, 1 is best: [N]."""
        return self.above + 1 + self.equal / 2

    def recall_at(self, k: int) -> float:
        """Expected share of queries whose right answer is among the first k."""
        hits = np.clip(k - self.above, 0, self.equal + 1) / (self.equal + 1)
        return float(hits.mean())

    def median_rank(self) -> float:
        """Median over the queries of the expected rank."""
        return float(np.median(self.expected_ranks()))

    def metrics(self) -> dict[str, float]:
        """R@1, R@5, R@10 (shares, 0 to 1) and median rank."""
        recalls = {f"R@{k}": self.recall_at(k) for k in RECALLS_AT}
        return {**recalls, "median rank": self.median_rank()}


def chance_metrics(num_clips: int) -> dict[str, float]:
    """What random embeddings score on average: R@k = k / N, median rank (N + 1) / 2."""
    recalls = {f"R@{k}": min(k / num_clips, 1.0) for k in RECALLS_AT}
    return {**recalls, "median rank": (num_clips + 1) / 2}


def rank_pairs(queries: npt.ArrayLike, gallery: npt.ArrayLike) -> Ranking:
    """Ranks each query's own item among all items of the gallery, by inner product.

    Args:
        queries: [N, D] embeddings of one modality, L2-normalised.
        gallery: [N, D] embeddings of the other, row i of the same clip as query i.

    Raises:
        ValueError: Shapes that do not pair, no rows, or values that are not finite.
    """
    q, g = _checked(queries, gallery)
    above = np.empty(len(q), np.int64)
    equal = np.empty(len(q), np.int64)
    right = np.einsum("nd,nd->n", q, g)
    for rows in _blocks(len(q)):
        scores = q[rows] @ g.T  # block × N
        own = right[rows, None]
        above[rows] = (scores > own + TIE_TOLERANCE).sum(axis=1)
        # the right one itself is among the equal
        equal[rows] = (np.abs(scores - own) <= TIE_TOLERANCE).sum(axis=1) - 1
    return Ranking(above, equal)


def top_hits(query: npt.ArrayLike, gallery: npt.ArrayLike, k: int) -> tuple[Integers, Floats]:
    """Returns the k best gallery rows for one query [D] and their scores, best first."""
    scores = np.asarray(gallery, float) @ np.asarray(query, float)
    order = np.argsort(-scores, kind="stable")[:k]
    return order.astype(np.int64), scores[order]


def average_segments(
    embeddings: npt.ArrayLike, clips: npt.ArrayLike
) -> tuple[Integers, npt.NDArray[np.float32]]:
    """Averages the segment embeddings of each clip and scales the mean back to length 1.

    Args:
        embeddings: [R, D], one row for each segment.
        clips: int [R], which clip each segment is of; any order, any number of segments a clip.

    Returns:
        The clips in rising order, int64 [N], and their embeddings, float32 [N, D]. A mean of
        exactly zero stays zero: it is equally near to everything.

    Raises:
        ValueError: Not one clip for each row, or no rows.
    """
    rows = np.asarray(embeddings, float)
    owners = np.asarray(clips, np.int64)
    if rows.ndim != 2 or owners.shape != rows.shape[:1] or len(rows) == 0:
        raise ValueError(
            f"average_segments: embeddings {list(rows.shape)} and clips {list(owners.shape)}; "
            "expected [R, D] and [R] with at least one segment"
        )
    unique, place = np.unique(owners, return_inverse=True)
    sums = np.zeros((len(unique), rows.shape[1]))
    np.add.at(sums, place, rows)
    lengths = np.linalg.norm(sums, axis=1, keepdims=True)
    return unique, (sums / np.where(lengths > 0, lengths, 1)).astype(np.float32)


def _checked(queries: npt.ArrayLike, gallery: npt.ArrayLike) -> tuple[Any, Any]:
    q, g = np.asarray(queries, float), np.asarray(gallery, float)
    if q.ndim != 2 or q.shape != g.shape or len(q) == 0:
        raise ValueError(
            f"retrieval: queries {list(q.shape)} and gallery {list(g.shape)}; expected the same "
            "[N, D] for both, row i of both from the same clip, at least one row"
        )
    for name, rows in (("queries", q), ("gallery", g)):
        wrong = np.flatnonzero(~np.isfinite(rows).all(axis=1))
        if len(wrong):
            raise ValueError(
                f"retrieval: {len(wrong)} of {len(rows)} {name} hold values that are not finite, "
                f"the first is row {wrong[0]}; did the training diverge?"
            )
    return q, g


def _blocks(num_rows: int) -> Iterator[slice]:
    step = max(1, _SCORES_AT_ONCE // num_rows)
    for start in range(0, num_rows, step):
        yield slice(start, start + step)
