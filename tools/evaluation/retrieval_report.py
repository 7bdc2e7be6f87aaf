"""The retrieval page of an evaluation: which queries are shown, with which hits and numbers.

OUT/index.html   see tools/display/retrieval_page.py
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pipelines.decoding.segment_reader import SegmentReader
from tools.display.page_parts import Card, Cell, Row, Table
from tools.display.rank_histogram import bins_of, histogram_svg
from tools.display.retrieval_cards import Preview, preview_of, similarity_picture
from tools.display.retrieval_page import Direction, Hit, Query, retrieval_page
from tools.evaluation.chance import chance_metrics
from tools.evaluation.labels import clip_name
from tools.evaluation.ranking import Scorer, search
from tools.evaluation.result import CHANCE, Evaluation, encoder_text, interval_text, number_text
from tools.evaluation.retrieval import Ranking
from tools.evaluation.runner import TRAINED_ON_THESE, Outcome
from tools.evaluation.side_by_side import find_evaluations
from tools.evaluation.split import Split
from tools.evaluation.tasks.retrieval import Direction as Way
from tools.evaluation.tasks.retrieval import Retrieval, gallery_of
from tools.runs.run import Run

_MAP_CLIPS = 160


def write_page(
    task: Retrieval,
    outcome: Outcome,
    *,
    num_queries: int = 12,
    num_hits: int = 5,
    beside: Sequence[Path] = (),
) -> Path:
    """Write the page of a retrieval evaluation into its folder.

    Args:
        task: with its rankings.
        outcome: of the task.
        num_queries: shown in each direction: a third the best, a third the worst, the others evenly
            spaced over the data set.
        num_hits: shown of each.
        beside: run folders whose results on the same data are rows of the tables, as those of the
            run's own other steps are.

    Returns:
        The page's path.
    """
    splits, result = outcome.splits["trained"], outcome.result
    asked = _Cards(outcome.run, splits["test"])
    gallery = gallery_of(splits)
    found = asked if gallery is splits["test"] else _Cards(outcome.run, gallery)
    directions = [
        _direction(task, splits, way, asked, found, num_queries, num_hits)
        for way in task.directions(splits)
    ]
    facts = {
        "run": f"{result.run['path']}, step {result.run['step']}",
        **{
            ("queries" if role == "test" and "train" in splits else "clips")
            if role == "test"
            else "gallery": f"{data.path}: {data.clips}"
            + (f", {data.num_skipped} skipped" if data.num_skipped else "")
            for role, data in result.data.items()
        },
    }
    path = outcome.out / "index.html"
    protocol = [
        *task.protocol.lines(),
        *(note for note in result.notes if note != TRAINED_ON_THESE),
        f"small numbers: {result.interval}",
        *(f"left out: {entry['what']}: {entry['why']}" for entry in result.left_out),
    ]
    warnings = [note for note in result.notes if note == TRAINED_ON_THESE]
    earlier = _earlier(result, [outcome.run.path, *beside])
    page = retrieval_page(
        "Retrieval", facts, _tables(result, earlier), directions, protocol, warnings
    )
    path.write_text(page, encoding="utf-8")
    return path


def _earlier(result: Evaluation, runs: Sequence[Path]) -> list[Evaluation]:
    """Other evaluations of the same data sets under the same protocol."""
    folders = [run / "evaluation" / "retrieval" for run in runs]
    folders = [folder for folder in folders if folder.is_dir()]
    if not folders or not any(next(folder.rglob("metrics.json"), None) for folder in folders):
        return []

    def asked(one: Evaluation) -> tuple[object, ...]:
        data = {role: facts.fingerprint for role, facts in one.data.items()}
        return data, one.settings["protocol_hash"], one.settings["gallery_list"]

    return [
        other
        for _, other in find_evaluations(folders)
        if other.identity != result.identity and asked(other) == asked(result)
    ]


def _tables(result: Evaluation, earlier: Sequence[Evaluation]) -> list[Table]:
    """One table for instances and one for labels."""
    metrics = list(dict.fromkeys(score.metric for score in result.scores))
    tables = []
    for title, is_class in (("The same clip", False), ("A clip of the same label", True)):
        rows = []
        for one in (result, *earlier):
            cells = {(s.of, s.encoder, s.metric): s for s in one.scores}
            for of, encoder in dict.fromkeys((s.of, s.encoder) for s in one.scores):
                if ("same label" in of) is not is_class:
                    continue
                if one is not result and encoder != "trained":
                    continue
                words = of if encoder == CHANCE else of.replace(", same label", "")
                other = "" if one is result else f" of {one.run['path']}"
                found = [cells.get((of, encoder, metric)) for metric in metrics]
                numbers = [
                    Cell("–")
                    if s is None
                    else Cell(number_text(s.metric, s.value), interval_text(s))
                    for s in found
                ]
                name = f"{words}, {encoder_text(encoder, one)}{other}"
                rows.append(Row(name, numbers, encoder != "trained" or one is not result))
        if rows:
            rows.sort(key=lambda row: row.is_faint)
            tables.append(Table(title, metrics, rows))
    return tables


def _direction(
    task: Retrieval,
    splits: Mapping[str, Split],
    way: Way,
    asked: "_Cards",
    found: "_Cards",
    num_queries: int,
    num_hits: int,
) -> Direction:
    ranking, rows = task.rankings["trained", way], task.query_rows(splits, way)
    scorer, items = task.scorer(splits, way), task.gallery_rows(gallery_of(splits))
    ranks = ranking.ranks()
    kinds = shown_queries(ranks, num_queries)
    places = np.array(list(kinds), np.int64)
    chosen = Scorer(scorer.queries[places], scorer.gallery, task.device)
    hit_rows, hit_scores = search(chosen, num_hits + 1)
    whole = chosen.block(slice(0, len(places)), slice(0, len(scorer.gallery))).cpu().numpy()
    queries = []
    for n, place in enumerate(places.tolist()):
        row = rows[place]
        is_right = _right_items(way, splits, row, items)
        itself = way.level == "class" and gallery_of(splits) is splits["test"]
        pairs = [
            (item, score)
            for item, score in zip(hit_rows[n].tolist(), hit_scores[n].tolist(), strict=True)
            if not (itself and items[item] == row)
        ][:num_hits]
        hits = [
            Hit(found.card(int(items[item]), way.gallery), k + 1, score, bool(is_right[item]))
            for k, (item, score) in enumerate(pairs)
        ]
        best = int(np.where(is_right, whole[n], -np.inf).argmax())
        answer = Hit(
            found.card(int(items[best]), way.gallery),
            float(ranks[place]),
            float(whole[n, best]),
            True,
        )
        card = asked.card(row, way.query)
        queries.append(Query(card, kinds[place], float(ranks[place]), hits, answer))
    picture, words = _similarities(scorer, splits, way, rows, items)
    return Direction(str(way), _histogram(ranking), picture, words, queries)


def shown_queries(ranks: npt.NDArray[np.float64], count: int) -> dict[int, str]:
    """Which queries are shown, and why: the best, the worst, and evenly spaced ones between."""
    third = max(1, count // 3)
    order = np.argsort(ranks, kind="stable").tolist()
    kinds: dict[int, str] = {}
    for kind, places in (("worst", order[::-1]), ("best", order)):
        for place in places[: min(third, max(1, len(order) // 3))]:
            kinds.setdefault(place, kind)
    for place in np.linspace(0, len(ranks) - 1, min(count, len(ranks))).astype(int).tolist():
        if len(kinds) < count:
            kinds.setdefault(place, "evenly spaced")
    names = ("best", "worst", "evenly spaced")
    return dict(sorted(kinds.items(), key=lambda pair: (names.index(pair[1]), pair[0])))


def _right_items(
    way: Way, splits: Mapping[str, Split], row: int, items: npt.NDArray[np.int64]
) -> npt.NDArray[np.bool_]:
    if way.level == "instance":
        return np.asarray(items == row)
    gallery, label = gallery_of(splits), splits["test"].labels[row]
    same = np.array([gallery.labels[item] == label for item in items.tolist()])
    if gallery is splits["test"]:
        same &= items != row
    return same


def _histogram(ranking: Ranking) -> str:
    num_items = int(ranking.num_items.max())
    reached = [0.0]
    for _, last in bins_of(num_items):
        reached.append(chance_metrics(ranking, [f"R@{last}"])[f"R@{last}"])
    return histogram_svg(ranking.ranks(), num_items, np.diff(reached).tolist())


def _similarities(
    scorer: Scorer,
    splits: Mapping[str, Split],
    way: Way,
    rows: Sequence[int],
    items: npt.NDArray[np.int64],
) -> tuple[bytes, str]:
    """The map of similarities of at most 160 queries and items, in the order of their labels."""
    test, gallery = splits["test"], gallery_of(splits)
    sides = []
    for split, numbers in ((test, list(rows)), (gallery, items.tolist())):
        places = np.unique(
            np.linspace(0, len(numbers) - 1, min(_MAP_CLIPS, len(numbers))).astype(int)
        )
        if split.has_labels:
            labels = np.array([split.labels[numbers[place]] for place in places.tolist()])
            places = places[np.argsort(labels, kind="stable")]
        sides.append(places.astype(np.int64))
    part = Scorer(scorer.queries[sides[0]], scorer.gallery[sides[1]])
    scores = part.block(slice(0, len(sides[0])), slice(0, len(sides[1]))).numpy()
    order = "label" if test.has_labels else "place in the data set"
    words = (
        f"Similarities of {len(sides[0])} queries ({way.query}, rows) and {len(sides[1])} clips "
        f"({way.gallery}, columns), in the order of their {order}; bright is similar."
    )
    return similarity_picture(scores), words


class _Cards:
    """Cards of a split's clips, decoded when first asked for."""

    def __init__(self, run: Run, split: Split) -> None:
        self._split, self._log_mel = split, run.config.log_mel
        names = split.modalities
        self._reader = SegmentReader(
            split.dataset,
            run.config.segment,
            video="video" in names or "image" in names,
            audio="audio" in names,
            text="text" in names,
        )
        self._previews: dict[int, Preview] = {}

    def card(self, row: int, modality: str) -> Card:
        """A clip as seen through a modality, with its sound."""
        number = int(self._split.numbers[row])
        metadata = self._split.dataset.metadata(number)
        key, name = self._split.keys[row], clip_name(self._split.keys[row], metadata)
        if modality == "text":
            return Card(name, f"“{self._reader.captions(number, 0.0)[0]}”", key)
        if row not in self._previews:
            self._previews[row] = preview_of(self._reader, number, self._log_mel)
        preview = self._previews[row]
        return Card(
            name,
            str(metadata.get("label") or ""),
            key,
            preview.picture(modality),
            preview.sound,
        )
