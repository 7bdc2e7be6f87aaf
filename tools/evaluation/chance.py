"""What random embeddings score on average in retrieval, in closed form.

Legend: N items that a query is compared with, m right ones among them.
"""

from collections.abc import Sequence

import numpy as np

from tools.evaluation.protocol import METRIC
from tools.evaluation.retrieval import Ranking


def chance_metrics(ranking: Ranking, metrics: Sequence[str]) -> dict[str, float]:
    """The expectation of each metric over random orders of the items, mean over the queries.

    Of "median rank" it is the median over the queries of the expected rank.
    """
    pairs, counts = np.unique(
        np.stack([ranking.num_items, ranking.num_right]), axis=1, return_counts=True
    )
    found = {}
    for metric in metrics:
        values = [expected(metric, int(n), int(m)) for n, m in pairs.T.tolist()]
        if metric == "median rank":
            found[metric] = float(np.median(np.repeat(values, counts)))
        else:
            found[metric] = float(np.average(values, weights=counts))
    return found


def expected(metric: str, num_items: int, num_right: int) -> float:
    """The expectation for one query.

    Raises:
        ValueError: no such metric.
    """
    from scipy.special import digamma, gammaln

    n, m = num_items, num_right
    matched = METRIC.fullmatch(metric)
    if matched is None:
        raise ValueError(f"no metric {metric!r}")
    if metric in ("median rank", "mean rank"):
        return (n + 1) / (m + 1)
    harmonic = float(digamma(n + 1) - digamma(1))
    if metric == "mAP":
        return (harmonic + (n - harmonic) * (m - 1) / max(n - 1, 1)) / n
    if metric == "MRR":
        ranks = np.arange(1, n - m + 2)

        # C(N − r, m − 1) / C(N, m) of the orders have their first right one at rank r
        log_first = gammaln(n - ranks + 1) - gammaln(m) - gammaln(n - ranks - m + 2)
        log_first -= gammaln(n + 1) - gammaln(m + 1) - gammaln(n - m + 1)
        return float((np.exp(log_first) / ranks).sum())
    k = min(int(matched["k"]), n)
    if matched["kind"] == "R":
        if k > n - m:
            return 1.0
        missed = gammaln(n - m + 1) - gammaln(n - m - k + 1) - gammaln(n + 1) + gammaln(n - k + 1)
        return k / n if m == 1 else float(1 - np.exp(missed))
    discount = 1 / np.log2(np.arange(2, k + 2))
    return float(m / n * discount.sum() / discount[:m].sum())
