"""Exact search and ranks in blocks: of all queries against a whole gallery, in flat memory.

Scores are inner products in float32 on a CPU or a GPU; `prepared` turns every similarity and
aggregation of a protocol into vectors whose inner products they are. A block of scores is 16 MiB,
however many clips there are; a gallery may be mapped from a file.

Legend: Q queries, G gallery items, S segments of a clip, D numbers, k hits.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tools.evaluation.protocol import Protocol
from tools.evaluation.split import mean_of_segments, unit_rows

Vectors = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

#: Scores nearer than this, times the vectors' lengths, are equal: float32 does not tell them apart.
TIE_TOLERANCE = 1e-6
_QUERIES_AT_ONCE, _ITEMS_AT_ONCE = 1024, 4096


@dataclass(frozen=True)
class Side:
    """The vectors of one side, ready to be compared.

    Args:
        rows: float32 [N, S, D]: scores are inner products, the greatest over both sides' segments
            where S > 1.
    """

    rows: Vectors

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, at: Integers) -> "Side":
        """Some rows in their order; all in order are not copied."""
        if len(at) == len(self) and (at == np.arange(len(at))).all():
            return self
        return Side(self.rows[at])

    def block(self, at: slice, device: torch.device | str) -> Tensor:
        """Some rows on a device: [n, S, D]."""
        return torch.from_numpy(np.array(self.rows[at])).to(device)


def prepared(segments: Vectors, protocol: Protocol, *, is_query: bool) -> Side:
    """The vectors [N, S, D] of a set of clips, ready to be compared under a protocol.

    Euclidean distance: −‖q − g‖² / 2 is ⟨(q, 1), (g, −‖g‖² / 2)⟩ but for what is the same for
    all items. The mean over all pairs of segments is the inner product of means, the mean over
    pairs of one place that of the segments laid end to end.
    """
    if protocol.aggregation == "mean of embeddings":
        rows = mean_of_segments(segments, unit=protocol.normalize_segments)[:, None]
    else:
        rows = unit_rows(segments) if protocol.normalize_segments else np.asarray(segments)
    if protocol.centring == "own set":
        rows = rows - rows.mean(axis=(0, 1), dtype=np.float64).astype(np.float32)
    if protocol.similarity == "cosine":
        rows = unit_rows(rows)
    if protocol.aggregation == "mean of similarities":
        rows = mean_of_segments(rows)[:, None]
    elif protocol.aggregation == "diagonal of similarities":
        count = rows.shape[1]
        rows = rows.reshape(len(rows), 1, -1) / np.sqrt(np.float32(count))
    if protocol.similarity == "euclidean":
        last = np.ones_like(rows[..., :1])
        if not is_query:
            last = -0.5 * np.square(rows).sum(axis=-1, keepdims=True)
        rows = np.concatenate([rows, last], axis=-1)
    return Side(np.ascontiguousarray(rows, np.float32))


def check_finite(name: str, rows: Vectors) -> None:
    """Refuse vectors that hold values that are not finite.

    Raises:
        ValueError: some do.
    """
    for at in blocks(len(rows), 65536):
        wrong = np.flatnonzero(~np.isfinite(rows[at]).all(axis=(1, 2)))
        if len(wrong):
            raise ValueError(
                f"retrieval: row {at.start + wrong[0]} of the {name} holds values that are not "
                "finite; did the training diverge?"
            )


def blocks(num_rows: int, at_once: int) -> Iterator[slice]:
    """Slices of at most `at_once` rows."""
    for start in range(0, num_rows, at_once):
        yield slice(start, min(start + at_once, num_rows))


class Scorer:
    """Scores of queries against a gallery, block by block.

    Args:
        queries: Q of them.
        gallery: G items.
        device: where the products are taken.
        dual_softmax: temperature τ: each score s is weighted by the softmax of τ·s over all
            queries (CAMoE, arXiv:2109.04290, §3.3); 0 for none.
    """

    def __init__(
        self,
        queries: Side,
        gallery: Side,
        device: torch.device | str = "cpu",
        dual_softmax: float = 0.0,
    ) -> None:
        for name, side in (("queries", queries), ("gallery", gallery)):
            if len(side) == 0 or side.rows.shape[1:] != queries.rows.shape[1:]:
                raise ValueError(
                    f"retrieval: {name} {list(side.rows.shape)}, queries "
                    f"{list(queries.rows.shape)}; expected [N, S, D] with the same S and D and at "
                    "least one row"
                )
            check_finite(name, side.rows)
        self.queries, self.gallery, self.device = queries, gallery, device
        self._temperature = dual_softmax
        self._held: tuple[slice, Tensor] | None = None  # the items of the last block
        self._memory: Tensor | None = None  # of a block's scores, written over by the next one's
        self._log_sums: Tensor | None = None
        segments = queries.rows.shape[1]
        self.query_blocks = list(blocks(len(queries), max(1, _QUERIES_AT_ONCE // segments)))
        self.item_blocks = list(blocks(len(gallery), max(1, _ITEMS_AT_ONCE // segments)))
        self.tolerance = TIE_TOLERANCE * max(_longest(queries) * _longest(gallery), 1e-30)
        if dual_softmax:
            self._log_sums = torch.cat([self._log_sum(at) for at in self.item_blocks])
            self.tolerance /= len(queries)

    def block(self, queries: slice, items: slice) -> Tensor:
        """Scores of some queries against some items: [q, g], until the next block is asked for."""
        scores = self._plain(queries, items)
        if self._log_sums is None:
            return scores
        return scores * (self._temperature * scores - self._log_sums[items]).exp()

    def pairs(self, queries: slice, items: Integers) -> Tensor:
        """Scores of some queries against one item each: [q]."""
        ours = self.queries.block(queries, self.device)
        theirs = torch.from_numpy(np.array(self.gallery.rows[items])).to(self.device)
        scores = torch.einsum("nsd,ntd->nst", ours, theirs).amax(dim=(1, 2))
        if self._log_sums is None:
            return scores
        log_sums = self._log_sums[torch.from_numpy(items).to(scores.device)]
        return scores * (self._temperature * scores - log_sums).exp()

    def _plain(self, queries: slice, items: slice) -> Tensor:
        if self._held is None or self._held[0] != items:
            self._held = items, self.gallery.block(items, self.device)
        ours, theirs = self.queries.block(queries, self.device), self._held[1]
        if ours.shape[1] == 1:
            size = len(ours) * len(theirs)
            if self._memory is None or len(self._memory) < size:
                self._memory = ours.new_empty(size)
            scores = self._memory[:size].view(len(ours), len(theirs))
            return torch.mm(ours[:, 0], theirs[:, 0].T, out=scores)
        pairs = ours.flatten(0, 1) @ theirs.flatten(0, 1).T  # q·S × g·S
        shape = (len(ours), ours.shape[1], len(theirs), theirs.shape[1])
        return pairs.view(shape).amax(dim=(1, 3))

    def _log_sum(self, items: slice) -> Tensor:
        parts = [
            (self._temperature * self._plain(at, items)).logsumexp(dim=0)
            for at in self.query_blocks
        ]
        return torch.stack(parts).logsumexp(dim=0)


def search(scorer: Scorer, k: int) -> tuple[Integers, Vectors]:
    """The k best items of each query, exactly.

    Returns:
        Their rows, int64 [Q, k], and scores, float32 [Q, k], best first; of equal ones the first in
        the gallery. k is G where the gallery has no more.
    """
    k = min(k, len(scorer.gallery))
    best = torch.full((len(scorer.queries), k), -torch.inf, device=scorer.device)
    rows = torch.zeros(best.shape, dtype=torch.int64, device=scorer.device)
    for items in scorer.item_blocks:
        for at in scorer.query_blocks:
            scores = scorer.block(at, items)
            # once many items have been seen, few queries find something better in a block
            better = (scores.amax(dim=1) > best[at, -1]).nonzero()[:, 0]
            if not len(better):
                continue
            found, place = scores[better].topk(min(k, scores.shape[1]), dim=1)
            held = better + at.start
            merged = torch.cat([best[held], found], dim=1)
            numbers = torch.cat([rows[held], place + items.start], dim=1)
            best[held], order = merged.topk(k, dim=1)
            rows[held] = numbers.gather(1, order)
    found_rows, found_scores = rows.cpu().numpy(), best.cpu().numpy()
    in_order = np.lexsort((found_rows, -found_scores), axis=1)
    return (
        np.take_along_axis(found_rows, in_order, 1),
        np.take_along_axis(found_scores, in_order, 1),
    )


def count_at_least(scores: Tensor, thresholds: Tensor) -> Tensor:
    """How many scores of each row [q, g] reach its threshold [q]: int64 [q]."""
    reached = scores >= thresholds[:, None]
    if reached.is_cuda:
        return reached.sum(dim=1)
    counts = np.add.reduce(reached.numpy().view(np.uint8), axis=1, dtype=np.int32)  # 2 × torch's
    return torch.from_numpy(counts.astype(np.int64))


def _longest(side: Side) -> float:
    return max(
        float(np.linalg.norm(side.rows[at], axis=-1).max()) for at in blocks(len(side), 65536)
    )
