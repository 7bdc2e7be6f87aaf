"""Retrieval: given a clip, find the same clip in another modality, or clips of the same label.

What is compared and how is a protocol, see tools/evaluation/protocol.py. With one data set, its
clips look among all of it; with two, those of --test look among those of --train, by label only.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from tools.evaluation.approximate import build, chosen_kind
from tools.evaluation.chance import chance_metrics
from tools.evaluation.encoders import Layer
from tools.evaluation.errors import EvaluationError
from tools.evaluation.intervals import bootstrap
from tools.evaluation.protocol import Protocol, gallery_digest
from tools.evaluation.ranking import Scorer, prepared
from tools.evaluation.result import CHANCE, Score
from tools.evaluation.retrieval import Ranking, rank_labels, rank_pairs, summarize
from tools.evaluation.split import Split

Integers = npt.NDArray[np.int64]
SAME_LABEL = ", same label"
REWEIGHTED = " (dual softmax)"


@dataclass(frozen=True)
class Direction:
    """What looks for what: a query's modality, a gallery's, and what is right."""

    query: str
    gallery: str
    level: str

    def __str__(self) -> str:
        return f"{self.query} → {self.gallery}" + (SAME_LABEL if self.level == "class" else "")


@dataclass(frozen=True, eq=False)
class _Question:
    """What is right in a direction: items whose number is that of the query.

    Attributes:
        asked: [Q]: the query's own item, or the number of its label.
        known: [G]: the same of each item.
        own: [Q], the item that a query is itself; None where queries are in another data set.
    """

    asked: Integers
    known: Integers
    own: Integers | None

    def is_right(self, rows: Integers) -> npt.NDArray[np.bool_]:
        """Which items [Q, k] are right."""
        return np.asarray(self.known[rows] == self.asked[:, None])


class Retrieval:
    """Retrieval under a protocol.

    Args:
        protocol: how it is scored.
        gallery_list: keys of the clips that take part, on both sides of one data set; all of them
            where None.
        device: where scores are computed.
        faiss: "flat", "ivf" or "hnsw": R@k by that index too, in rows of their own; "auto" where
            the gallery is large.

    Attributes:
        rankings: (encoder, direction) → where the right answers stand, once scored.

    Raises:
        EvaluationError: faiss is asked for and not installed, or cannot search under the protocol.
    """

    name = "retrieval"
    title = "retrieval"
    needs_labels = False
    interval = "95 % bootstrap over the queries"

    def __init__(
        self,
        protocol: Protocol,
        gallery_list: Sequence[str] | None = None,
        device: torch.device | str = "cpu",
        faiss: str = "none",
    ) -> None:
        self.protocol, self.gallery_list, self.device = protocol, gallery_list, device
        self.faiss = faiss
        chosen_kind(faiss, 0)  # refused before anything is decoded
        if faiss != "none" and protocol.aggregation == "max of similarities":
            raise EvaluationError(
                f"--faiss {faiss}: the protocol takes the greatest similarity of a clip's "
                "segments, and FAISS knows one vector a clip; choose another aggregation"
            )
        self.rankings: dict[tuple[str, Direction], Ranking] = {}
        self._lost: dict[str, str] = {}

    @property
    def layer(self) -> Layer:
        """As the protocol says."""
        return self.protocol.layer

    def settings(self) -> dict[str, Any]:
        """The protocol and the gallery list."""
        listed = None if self.gallery_list is None else gallery_digest(self.gallery_list)
        return {
            "protocol": self.protocol.to_tables(),
            "protocol_hash": self.protocol.digest,
            "gallery_list": listed,
            **({} if self.faiss == "none" else {"faiss": self.faiss}),
        }

    def check(self, splits: Mapping[str, Split]) -> list[str]:
        """At least one direction, two clips, and every listed clip."""
        gallery = gallery_of(splits)
        rows = self.gallery_rows(gallery)
        if not self.directions(splits):
            reasons = "; ".join(entry["why"] for entry in self.left_out(splits))
            raise EvaluationError(
                f"{gallery.dataset.path}: there is nothing to find: {reasons}. For labels use "
                "--protocol selavi or coclr, or `gdt evaluate knn`"
            )
        if len(rows) < 2:
            raise EvaluationError(
                f"{gallery.dataset.path}: retrieval in a gallery of one clip finds it whatever the "
                "model; give two clips or more"
            )
        digest = gallery_digest([gallery.keys[row] for row in rows.tolist()])
        return [f"gallery of {len(rows)} clips ({digest})"]

    def gallery_rows(self, gallery: Split) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Rows of the gallery's clips that take part.

        Raises:
            EvaluationError: a listed clip is not among them.
        """
        if self.gallery_list is None:
            return np.arange(len(gallery.keys))
        places = {key: row for row, key in enumerate(gallery.keys)}
        missing = [key for key in self.gallery_list if key not in places]
        if missing:
            raise EvaluationError(
                f"--list names {len(missing)} of {len(self.gallery_list)} clips that "
                f"{gallery.dataset.path} has not, or that were skipped; the first is "
                f"{missing[0]!r}, a key there is {gallery.keys[0]!r}"
            )
        return np.array(sorted(places[key] for key in self.gallery_list))

    def directions(self, splits: Mapping[str, Split]) -> list[Direction]:
        """Everything that can be looked for."""
        modalities = splits["test"].modalities
        found = []
        if "instance" in self.protocol.levels and "train" not in splits:
            found += [Direction(a, b, "instance") for a in modalities for b in modalities if a != b]
        if "class" in self.protocol.levels and self._why_no_labels(splits) is None:
            found += [Direction(a, b, "class") for a in modalities for b in modalities]
        return found

    def left_out(self, splits: Mapping[str, Split]) -> list[dict[str, str]]:
        """Levels that cannot be scored, and queries that have nothing to find."""
        entries = []
        modalities = splits["test"].modalities
        if "instance" in self.protocol.levels:
            if "train" in splits:
                why = "two data sets have no clip in common; give one with --shards"
                entries.append({"what": "instance level", "why": why})
            elif len(modalities) < 2:
                why = f"it finds a clip in another modality, and there is {modalities[0]} alone"
                entries.append({"what": "instance level", "why": why})
        if "class" in self.protocol.levels:
            why_not = self._why_no_labels(splits)
            if why_not is not None:
                entries.append({"what": "class level", "why": why_not})
            elif lonely := len(self._query_rows(splits, "all")) - len(
                self._query_rows(splits, "class")
            ):
                why = "no other clip of the gallery has their label"
                entries.append({"what": f"class level of {lonely} queries", "why": why})
        entries += [
            {"what": f"{of}: all but R@k", "why": f"what it does not find has no rank; {lost}"}
            for of, lost in self._lost.items()
        ]
        return entries

    def score(self, encoder: str, splits: Mapping[str, Split]) -> list[Score]:
        """Every metric in every direction."""
        scores = []
        for direction in self.directions(splits):
            temperatures = dict.fromkeys((0.0, self.protocol.dual_softmax))
            for temperature in temperatures:
                ranking = self._rank(splits, direction, temperature)
                if not temperature:
                    self.rankings[encoder, direction] = ranking
                of = f"{direction}{REWEIGHTED if temperature else ''}"
                for metric in self.protocol.metrics:
                    values = ranking.values(metric, self.protocol.ties)
                    statistic = np.median if metric.startswith("median") else np.mean
                    interval = bootstrap(values, statistic)
                    scores.append(Score(of, encoder, metric, summarize(metric, values), *interval))
            kind = chosen_kind(self.faiss, len(self.gallery_rows(gallery_of(splits))))
            if kind != "none":
                scores += self._approximately(encoder, splits, direction, kind)
        return scores

    def _approximately(
        self, encoder: str, splits: Mapping[str, Split], direction: Direction, kind: str
    ) -> list[Score]:
        """R@k of what FAISS finds, and what it loses of the exact nearest."""
        depths = {m: int(m.removeprefix("R@")) for m in self.protocol.metrics if m[:2] == "R@"}
        scorer, question = self.scorer(splits, direction), self._question(splits, direction)
        queries, items = scorer.queries.rows[:, 0], scorer.gallery.rows[:, 0]
        index = build(items, kind, queries)
        own = question.own if direction.level == "class" else None
        depth = min(max(depths.values(), default=1), len(items))
        places = index.first_right(queries, depth, question.is_right, own)
        of = f"{direction}, FAISS {kind}"
        self._lost[of] = index.lost()
        return [
            Score(of, encoder, metric, float((places < k).mean()), *bootstrap(places < k))
            for metric, k in depths.items()
        ]

    def chance(self, splits: Mapping[str, Split]) -> list[Score]:
        """Random embeddings: one row for each level, and for each size of gallery."""
        scores: dict[tuple[str, str], Score] = {}
        for (encoder, direction), ranking in self.rankings.items():
            if encoder != "trained":
                continue
            of = "same clip"
            if direction.level == "class":
                alone = direction.query == direction.gallery or "train" in splits
                of = "same label" if alone else "same label, other modality"
            for metric, value in chance_metrics(ranking, self.protocol.metrics).items():
                scores.setdefault((of, metric), Score(of, CHANCE, metric, value))
        return list(scores.values())

    def scorer(
        self, splits: Mapping[str, Split], direction: Direction, dual_softmax: float = 0.0
    ) -> Scorer:
        """The scores of a direction, of the queries that have something to find."""
        gallery, protocol = gallery_of(splits), self.protocol
        queries = splits["test"].segments(direction.query)
        items = gallery.segments(direction.gallery)
        query_side = prepared(queries, protocol, is_query=True)
        item_side = prepared(items, protocol, is_query=False)
        rows, item_rows = self._query_rows(splits, direction.level), self.gallery_rows(gallery)
        return Scorer(query_side[rows], item_side[item_rows], self.device, dual_softmax)

    def _rank(
        self, splits: Mapping[str, Split], direction: Direction, temperature: float
    ) -> Ranking:
        scorer = self.scorer(splits, direction, temperature)
        question = self._question(splits, direction)
        if direction.level == "instance":
            assert question.own is not None
            return rank_pairs(scorer, question.own)
        return rank_labels(
            scorer,
            question.asked,
            question.known,
            left_out=question.own,
            metrics=self.protocol.metrics,
            ties=self.protocol.ties,
        )

    def _question(self, splits: Mapping[str, Split], direction: Direction) -> "_Question":
        gallery, test = gallery_of(splits), splits["test"]
        items, rows = self.gallery_rows(gallery), self._query_rows(splits, direction.level)
        own = np.searchsorted(items, rows) if gallery is test else None
        if direction.level == "instance":
            assert own is not None
            return _Question(own, np.arange(len(items)), own)
        names = {name: n for n, name in enumerate(sorted(set(gallery.labels)))}
        known = np.array([names[label] for label in gallery.labels])[items]
        asked = np.array([names[test.labels[row]] for row in rows.tolist()])
        return _Question(asked, known, own)

    def query_rows(self, splits: Mapping[str, Split], direction: Direction) -> list[int]:
        """The rows of the test clips that ask in a direction."""
        rows: list[int] = self._query_rows(splits, direction.level).tolist()
        return rows

    def _query_rows(
        self, splits: Mapping[str, Split], level: str
    ) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Test clips that take part; at class level those whose label another clip has."""
        test, gallery = splits["test"], gallery_of(splits)
        rows = np.arange(len(test.keys))
        if test is gallery:
            rows = self.gallery_rows(gallery)
        if level != "class":
            return rows
        counts: dict[str, int] = {}
        for row in self.gallery_rows(gallery).tolist():
            counts[gallery.labels[row]] = counts.get(gallery.labels[row], 0) + 1
        needed = 2 if test is gallery else 1
        labels = test.labels
        return np.array([r for r in rows.tolist() if counts.get(labels[r], 0) >= needed], np.int64)

    def _why_no_labels(self, splits: Mapping[str, Split]) -> str | None:
        for split in splits.values():
            if not split.has_labels:
                return f"not all clips of {split.dataset.path} have a label"
        if not len(self._query_rows(splits, "class")):
            return "no two clips have the same label"
        return None


def gallery_of(splits: Mapping[str, Split]) -> Split:
    """The clips that are looked through."""
    return splits.get("train", splits["test"])
