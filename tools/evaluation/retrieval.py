"""Where each query's right answer stands among all items, and the measures of that.

    Scorer ─► rank_pairs (the same clip) or rank_labels (any clip of the label) ─► Ranking
    ─► a value for each query and metric ─► mean, or median

Rank 1 is best. Of w wrong items above the best right one, e wrong ones and r right ones that tie
with it, under the rule "expected" the ties are in random order, and R@k is the chance that a right
one is among the first k: with j = clip(k − w, 0, e + r), 1 − C(e, j) / C(e + r, j); the rank is
w + (e + r + 1) / (r + 1). So an encoder that maps everything to one point scores chance, never
100 %.

Legend: Q queries, G gallery items.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch

from tools.evaluation.graded import graded_values
from tools.evaluation.protocol import METRIC, Ties
from tools.evaluation.ranking import Scorer, blocks, count_at_least

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
_SCORES_AT_ONCE = 1 << 24


@dataclass(frozen=True)
class Ranking:
    """Where each query's best right answer stands.

    Attributes:
        above: int64 [Q], wrong items with a higher score.
        equal: int64 [Q], wrong items with the same score.
        right: int64 [Q], right items with that score, at least 1.
        num_items: int64 [Q], items that a query was compared with.
        num_right: int64 [Q], right ones among them.
        graded: metric → [Q], of those that need the whole order (mAP, nDCG).
    """

    above: Integers
    equal: Integers
    right: Integers
    num_items: Integers
    num_right: Integers
    graded: Mapping[str, Floats] = field(default_factory=dict)

    def ranks(self, ties: Ties = "expected") -> Floats:
        """Rank of each query's best right answer, 1 is best: [Q] (more under "every tied")."""
        if ties == "expected":
            return np.asarray(self.above + (self.equal + self.right + 1) / (self.right + 1))
        if ties == "optimistic":
            return self.above + np.float64(1)
        if ties == "pessimistic":
            return self.above + self.equal + np.float64(1)
        return np.concatenate(
            [a + 1.0 + np.arange(e + 1) for a, e in zip(self.above, self.equal, strict=True)]
        )

    def values(self, metric: str, ties: Ties = "expected") -> Floats:
        """One value a query, whose mean (of "median rank": median) is the metric.

        Raises:
            ValueError: no such metric.
        """
        found = METRIC.fullmatch(metric)
        if found is None:
            raise ValueError(f"no metric {metric!r}: R@k, nDCG@k, mAP, MRR, median rank, mean rank")
        if metric in self.graded:
            return self.graded[metric]
        if metric in ("median rank", "mean rank"):
            return self.ranks(ties)
        if ties != "expected":
            return _of_rank(metric, self.ranks(ties))
        if found["kind"] == "R":
            return self._recall(int(found["k"]))
        return self._expected(metric)

    def _recall(self, k: int) -> Floats:
        from scipy.special import gammaln

        tied = self.equal + self.right
        taken = np.clip(k - self.above, 0, tied)
        some_wrong = taken <= self.equal  # else a right one must be among them
        left = np.where(some_wrong, self.equal - taken, 0)
        missed = np.exp(
            gammaln(self.equal + 1)
            - gammaln(left + 1)
            - gammaln(tied + 1)
            + gammaln(tied - taken + 1)
        )
        several = np.where(some_wrong, 1 - missed, 1.0)
        found: Floats = np.where(self.right == 1, taken / tied, several)
        return found

    def _expected(self, metric: str) -> Floats:
        """The mean of a function of the rank over the orders of the ties."""
        lone = self.right == 1
        most = int((self.above + self.equal).max(initial=0)) + 1
        sums = np.append(0, np.cumsum(_of_rank(metric, np.arange(1, most + 1.0))))
        stop = np.where(lone, self.above + self.equal + 1, 1)
        means = (sums[stop] - sums[np.where(lone, self.above, 0)]) / (self.equal + 1)
        for i in np.flatnonzero(~lone):  # any of several right ones may come first
            steps = np.arange(self.equal[i] + 1)
            first = self.right[i] / (self.equal[i] + self.right[i] - steps)  # if none was before
            none_before = np.append(1, np.cumprod(1 - first)[:-1])
            means[i] = (none_before * first * _of_rank(metric, self.above[i] + steps + 1.0)).sum()
        return np.asarray(means, np.float64)

    def summary(self, metrics: Sequence[str], ties: Ties = "expected") -> dict[str, float]:
        """The metrics."""
        return {metric: summarize(metric, self.values(metric, ties)) for metric in metrics}


def summarize(metric: str, values: Floats) -> float:
    """The mean of a metric's values, or their median where it is one."""
    return float(np.median(values) if metric.startswith("median") else np.mean(values))


def _of_rank(metric: str, ranks: Floats) -> Floats:
    """What one right answer at a rank gives: [Q]."""
    found = METRIC.fullmatch(metric)
    if found is None or metric in ("MRR", "mAP"):
        return 1 / ranks
    within = ranks <= int(found["k"])
    return within / np.log2(1 + ranks) if found["kind"] == "nDCG" else within.astype(float)


def rank_pairs(scorer: Scorer, right: Integers) -> Ranking:
    """Rank one right item for each query, right[i] of query i, among the whole gallery.

    Raises:
        ValueError: not one right item for each query.
    """
    num_queries, num_items = len(scorer.queries), len(scorer.gallery)
    if right.shape != (num_queries,) or (num_queries and not 0 <= right.max() < num_items):
        raise ValueError(
            f"retrieval: {list(right.shape)} right answers for {num_queries} queries and "
            f"{num_items} items; expected the row of one item for each query"
        )
    above = np.zeros(num_queries, np.int64)
    near = np.zeros(num_queries, np.int64)  # not below: above, equal and the right one itself
    own = torch.cat([scorer.pairs(at, right[at]) for at in scorer.query_blocks])
    lowest = own - scorer.tolerance
    highest = torch.nextafter(own + scorer.tolerance, torch.full_like(own, torch.inf))
    for items in scorer.item_blocks:
        for at in scorer.query_blocks:
            scores = scorer.block(at, items)
            above[at] += count_at_least(scores, highest[at]).cpu().numpy()
            near[at] += count_at_least(scores, lowest[at]).cpu().numpy()
    ones = np.ones(num_queries, np.int64)
    return Ranking(above, np.maximum(near - above - 1, 0), ones, ones * num_items, ones)


def rank_labels(
    scorer: Scorer,
    query_labels: npt.ArrayLike,
    gallery_labels: npt.ArrayLike,
    *,
    left_out: Integers | None = None,
    metrics: Sequence[str] = (),
    ties: Ties = "expected",
) -> Ranking:
    """Rank the items that have each query's label.

    Args:
        scorer: Q queries, G items.
        query_labels: [Q].
        gallery_labels: [G].
        left_out: [Q], the item that a query is itself, and is not compared with.
        metrics: those that need the whole order (mAP, nDCG@k) are worked out for these.
        ties: their rule.

    Raises:
        ValueError: labels that do not fit, or a query without a right item.
    """
    ours, theirs = np.asarray(query_labels), np.asarray(gallery_labels)
    num_queries, num_items = len(scorer.queries), len(scorer.gallery)
    if ours.shape != (num_queries,) or theirs.shape != (num_items,):
        raise ValueError(
            f"retrieval: labels {list(ours.shape)} and {list(theirs.shape)} for {num_queries} "
            f"queries and {num_items} items; expected one each"
        )
    graded = [m for m in metrics if m == "mAP" or m.startswith("nDCG")]
    found: dict[str, list[Floats]] = {metric: [] for metric in graded}
    columns: list[tuple[Integers, ...]] = []
    for at in blocks(num_queries, max(1, _SCORES_AT_ONCE // num_items)):
        scores = scorer.block(at, slice(0, num_items)).cpu().numpy()  # changed before the next
        is_right = ours[at, None] == theirs[None]
        if left_out is not None:
            selves = np.arange(len(scores)), left_out[at]
            scores[selves], is_right[selves] = -np.inf, False
        if not is_right.any(axis=1).all():
            missing = at.start + int(np.flatnonzero(~is_right.any(axis=1))[0])
            raise ValueError(f"retrieval: query {missing} has no item of its label to find")
        best = np.where(is_right, scores, -np.inf).max(axis=1, keepdims=True)
        is_tied = np.abs(scores - best) <= scorer.tolerance
        is_above = (scores > best + scorer.tolerance) & ~is_right
        columns.append(
            tuple(
                mask.sum(axis=1)
                for mask in (is_above, is_tied & ~is_right, is_tied & is_right, is_right)
            )
        )
        for metric, values in graded_values(
            scores, is_right, graded, tolerance=scorer.tolerance, ties=ties
        ).items():
            found[metric].append(values)
    above, equal, right, num_right = (np.concatenate(c) for c in zip(*columns, strict=True))
    return Ranking(
        above,
        equal,
        right,
        np.full(num_queries, num_items - (left_out is not None), np.int64),
        num_right,
        {metric: np.concatenate(values) for metric, values in found.items()},
    )
