"""Few-shot draws, the linear probe's fit, clusters and chance, on features made up for it."""

from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pytest
from torch import from_numpy
from torchmetrics.functional.clustering import adjusted_rand_score, normalized_mutual_info_score

from tools.evaluation.errors import EvaluationError
from tools.evaluation.split import Split
from tools.evaluation.tasks.audio_svm import AudioSvm
from tools.evaluation.tasks.clustering import Clustering
from tools.evaluation.tasks.few_shot import FewShot, drawn_rows
from tools.evaluation.tasks.knn import Knn
from tools.evaluation.tasks.labelled import most_frequent_label
from tools.evaluation.tasks.linear_probe import LinearProbe, fit_and_answer


class MadeUp:
    """Stands for a split: features around one point a label, as far apart as is asked."""

    def __init__(self, seed: int, labels: str, apart: float) -> None:
        rng = np.random.default_rng(seed)
        self.labels = tuple(labels)
        centres = {label: np.eye(8)[n] * apart for n, label in enumerate(sorted(set(labels)))}
        rows = np.stack([centres[label] for label in labels]) + rng.normal(size=(len(labels), 8))
        self.rows: npt.NDArray[np.float32] = rows.astype(np.float32)
        self.modalities = ("audio",)
        self.dataset = type("Data", (), {"path": Path(f"set-{seed}")})

    def means(self, modality: str) -> npt.NDArray[np.float32]:
        return self.rows

    def is_same_as(self, other: Any) -> bool:
        return self is other


def splits(apart: float, **labels: str) -> dict[str, Split]:
    made = {role: MadeUp(n, text, apart) for n, (role, text) in enumerate(labels.items())}
    return cast(dict[str, Split], made)


def test_features_that_tell_labels_apart_score_and_others_score_chance() -> None:
    for task in (LinearProbe(), FewShot((1, 5), draws=4)):
        for apart, low, high in ((30.0, 0.95, 1.0), (0.0, 0.1, 0.6)):
            sets = splits(apart, train="abc" * 20, test="abc" * 20)
            assert task.check(sets) == []
            for score in task.score("trained", sets):
                assert low <= score.value <= high, score
                assert score.low is not None
                assert score.high is not None
                assert score.low <= score.value <= score.high
        assert all(score.value == pytest.approx(1 / 3) for score in task.chance(sets))


def test_clusters_equal_torchmetrics() -> None:
    from sklearn.cluster import KMeans

    sets = splits(3.0, test="abcd" * 15)
    task = Clustering(seeds=3)
    found = {score.metric: score.value for score in task.score("trained", sets)}
    rows, truth = sets["test"].means("audio"), np.array([ord(c) for c in "abcd" * 15])
    expected: dict[str, list[float]] = {"NMI": [], "ARI": []}
    for seed in range(3):
        clusters = from_numpy(KMeans(4, n_init=1, random_state=seed).fit_predict(rows))
        labels = from_numpy(truth)
        expected["NMI"].append(float(normalized_mutual_info_score(clusters, labels)))
        expected["ARI"].append(float(adjusted_rand_score(clusters, labels)))
    assert found == pytest.approx({name: np.mean(v) for name, v in expected.items()}, abs=1e-5)
    chance = {score.metric: score.value for score in task.chance(sets)}
    assert chance["ARI"] == pytest.approx(0, abs=0.03)
    assert 0 < chance["NMI"] < found["NMI"]
    with pytest.raises(EvaluationError, match="4 clips with 4 labels cannot be clustered"):
        task.check(splits(1.0, test="abcd"))


def test_draws_hold_each_label_equally_and_no_clip_twice() -> None:
    labels = "aabbbbccccc"
    for seed in range(5):
        rows = drawn_rows(labels, 2, seed)
        assert len(set(rows.tolist())) == 6
        assert sorted(labels[row] for row in rows) == list("aabbcc")
    assert drawn_rows(labels, 2, 1).tolist() != drawn_rows(labels, 2, 2).tolist()


def test_rare_labels_are_said() -> None:
    sets = splits(1.0, train="aaaabb", test="ab")
    (entry,) = FewShot((1, 2, 3)).left_out(sets)
    assert entry["why"] == "the label 'b' has 2 training clips"
    (entry,) = LinearProbe().left_out(sets)
    assert "a label has 2 training clips, and 3 folds need as many" in entry["why"]
    train = sets["train"].means("audio")
    assert set(fit_and_answer(train, list("aaaabb"), train)) <= {"a", "b"}
    with pytest.raises(EvaluationError, match=r"the rarest \('b'\) with 2 clips"):
        FewShot((3,)).check(sets)
    with pytest.raises(EvaluationError, match="has labels that set-0 has not: z; there are a, b"):
        LinearProbe().check(splits(1.0, train="aaaabb", test="az"))
    with pytest.raises(EvaluationError, match="all clips have the one label 'a'"):
        LinearProbe().check(splits(1.0, train="aaa", test="a"))


def test_a_clip_needs_a_neighbour() -> None:
    sets = splits(1.0, train="a")
    alone = {"train": sets["train"], "test": sets["train"]}
    with pytest.raises(EvaluationError, match="has one clip, which is left out of its own neighb"):
        Knn().check(alone)
    assert Knn().check(splits(1.0, train="a", test="a")) == []


def test_folds_leave_every_label_to_learn_from() -> None:
    sets = splits(1.0, test="aaabbb")
    vars(sets["test"])["folds"] = tuple("122333")
    with pytest.raises(EvaluationError, match="all clips of 'b' are in fold 3, so that"):
        AudioSvm().check(sets)
    vars(sets["test"])["folds"] = tuple("123123")
    assert AudioSvm().check(sets) == []


def test_chance_always_answers_the_most_frequent_label() -> None:
    assert most_frequent_label(("a", "b", "b"), ("a", "b", "a", "a")) == 0.25
