"""Clustering: do k-means clusters of frozen features fall together with the labels?

As many clusters as there are labels, several seeds; normalised mutual information (arithmetic mean,
as SeLaVi and scikit-learn take it) and the adjusted Rand index. Chance: the same clusters, with
their clips shuffled.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from tools.evaluation.encoders import Layer
from tools.evaluation.errors import EvaluationError
from tools.evaluation.intervals import bootstrap
from tools.evaluation.result import CHANCE, Score
from tools.evaluation.split import Split

_METRICS = ("NMI", "ARI")


@dataclass(frozen=True)
class Clustering:
    """k-means (scikit-learn's) on features.

    Attributes:
        seeds: so many times it is begun anew.
    """

    seeds: int = 5
    name: ClassVar[str] = "clustering"
    title: ClassVar[str] = "k-means clusters of frozen features beside labels"
    layer: ClassVar[Layer] = "features"
    needs_labels: ClassVar[bool] = True
    interval: ClassVar[str] = "95 % bootstrap over the seeds of k-means"

    def settings(self) -> dict[str, Any]:
        """The seeds; the number of clusters is that of the labels."""
        return {"seeds": self.seeds, "clusters": "as many as labels"}

    def check(self, splits: Mapping[str, Split]) -> list[str]:
        """At least two labels, and more clips than labels."""
        labels, path = splits["test"].labels, splits["test"].dataset.path
        if not 2 <= len(set(labels)) < len(labels):
            raise EvaluationError(
                f"{path}: {len(labels)} clips with {len(set(labels))} labels cannot be clustered; "
                "it needs two labels or more, and more clips than labels"
            )
        return []

    def score(self, encoder: str, splits: Mapping[str, Split]) -> list[Score]:
        """NMI and ARI of every modality, mean over the seeds."""
        from sklearn.cluster import KMeans
        from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

        test = splits["test"]
        scores = []
        for modality in test.modalities:
            found: dict[str, list[float]] = {metric: [] for metric in _METRICS}
            for seed in range(self.seeds):
                means = KMeans(len(set(test.labels)), n_init=1, random_state=seed)
                clusters = means.fit_predict(test.means(modality))
                found["NMI"].append(normalized_mutual_info_score(test.labels, clusters))
                found["ARI"].append(adjusted_rand_score(test.labels, clusters))
            for metric, values in found.items():
                mean = float(np.mean(values))
                scores.append(Score(modality, encoder, metric, mean, *bootstrap(values)))
        return scores

    def chance(self, splits: Mapping[str, Split]) -> list[Score]:
        """Labels beside themselves shuffled: clusters of the labels' sizes that know nothing."""
        from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

        labels, rng = np.array(splits["test"].labels), np.random.default_rng(0)
        shuffled = [rng.permutation(labels) for _ in range(20)]
        nmi = np.mean([normalized_mutual_info_score(labels, other) for other in shuffled])
        ari = np.mean([adjusted_rand_score(labels, other) for other in shuffled])
        return [Score("", CHANCE, "NMI", float(nmi)), Score("", CHANCE, "ARI", float(ari))]

    def left_out(self, splits: Mapping[str, Split]) -> list[dict[str, str]]:
        """Nothing."""
        return []
