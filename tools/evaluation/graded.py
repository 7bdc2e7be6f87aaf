"""Average precision and nDCG of many right answers, with ties counted by a rule.

Under "expected" both are the mean over all orders of the ties, in closed form: McSherry and Najork,
"Computing Information Retrieval Performance Measures Efficiently in the Presence of Tied Scores",
ECIR 2008, §3. Legend: q queries, G items.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tools.evaluation.protocol import METRIC, Ties

Floats = npt.NDArray[np.float64]


def graded_values(
    scores: npt.NDArray[np.floating],
    is_right: npt.NDArray[np.bool_],
    metrics: Sequence[str],
    *,
    tolerance: float,
    ties: Ties,
) -> dict[str, Floats]:
    """A value for each query and metric ("mAP", "nDCG@k").

    Args:
        scores: [q, G]; items at −inf take no part.
        is_right: bool [q, G], at least one right item a query.
        metrics: which; none costs nothing.
        tolerance: scores no further apart than this are equal.
        ties: the rule.
    """
    found: dict[str, list[float]] = {metric: [] for metric in metrics}
    if not metrics:
        return {}
    for row, right in zip(scores, is_right, strict=True):
        order = np.argsort(-row, kind="stable")
        ordered, relevant = row[order], right[order].astype(float)
        new = np.append(True, ordered[:-1] - ordered[1:] > tolerance)  # a tie begins
        group = np.cumsum(new) - 1
        if ties in ("optimistic", "pessimistic"):
            sign = -1 if ties == "optimistic" else 1
            relevant = relevant[np.lexsort((sign * relevant, group))]
            group = np.arange(len(group))
        for metric in metrics:
            matched = METRIC.fullmatch(metric)
            if metric == "mAP":
                found[metric].append(_average_precision(relevant, group))
            elif matched is not None:
                found[metric].append(_ndcg(relevant, group, int(matched["k"])))
    return {metric: np.array(values) for metric, values in found.items()}


def _groups(relevant: Floats, group: npt.NDArray[np.int64]) -> tuple[Any, Any, Any]:
    """For each item: the size of its tie, the right ones in it, and the right ones before it."""
    sizes = np.bincount(group).astype(float)
    rights = np.bincount(group, relevant)
    before = np.cumsum(rights) - rights
    return sizes[group], rights[group], before[group]


def _average_precision(relevant: Floats, group: npt.NDArray[np.int64]) -> float:
    sizes, rights, before = _groups(relevant, group)
    position = np.arange(1, len(relevant) + 1)
    first = np.maximum.accumulate(np.where(np.append(True, np.diff(group) > 0), position, 0))
    others = (position - first) * np.where(sizes > 1, (rights - 1) / np.maximum(sizes - 1, 1), 0)
    precision = (before + 1 + others) / position
    return float((rights / sizes * precision).sum() / relevant.sum())


def _ndcg(relevant: Floats, group: npt.NDArray[np.int64], k: int) -> float:
    sizes, rights, _ = _groups(relevant, group)
    discount = 1 / np.log2(np.arange(2, min(k, len(relevant)) + 2))
    gain = float((rights / sizes)[: len(discount)] @ discount)
    ideal = float(discount[: int(relevant.sum())].sum())
    return gain / ideal
