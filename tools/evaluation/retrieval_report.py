"""The retrieval page of an evaluation: decodes the clips that are shown, and renders it.

OUT/index.html   see tools/display/retrieval_page.py
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from pipelines.decoding.segment_reader import SegmentReader
from tools.display.retrieval_cards import frames_picture, log_mel_picture, mp3_audio
from tools.display.retrieval_page import Card, Direction, Hit, Query, retrieval_page
from tools.display.segment_views import log_mel, rgb_frames
from tools.evaluation.labels import clip_name
from tools.evaluation.ranking import Scorer, search
from tools.evaluation.result import CHANCE
from tools.evaluation.runner import Outcome
from tools.evaluation.split import Split
from tools.evaluation.tasks.retrieval import Direction as Way
from tools.evaluation.tasks.retrieval import Retrieval, gallery_of
from tools.runs.run import Run


def write_page(
    task: Retrieval, outcome: Outcome, *, num_queries: int = 12, num_hits: int = 5
) -> Path:
    """Write the page of a retrieval evaluation into its folder; returns its path."""
    splits, result = outcome.splits["trained"], outcome.result
    gallery = gallery_of(splits)
    asked, found = _Cards(outcome.run, splits["test"]), _Cards(outcome.run, gallery)
    items = task.gallery_rows(gallery)
    directions = []
    for way in task.directions(splits):
        ranking, rows = task.rankings["trained", way], task.query_rows(splits, way)
        scorer = task.scorer(splits, way)
        shown = np.unique(np.linspace(0, len(rows) - 1, min(num_queries, len(rows))).astype(int))
        chosen = Scorer(scorer.queries[shown], scorer.gallery, task.device)
        hits, scores = search(chosen, num_hits + 1)
        queries = []
        for place, hit_rows, hit_scores in zip(shown.tolist(), hits, scores, strict=True):
            row = rows[place]
            cards = [
                Hit(
                    found.card(item, way.gallery),
                    rank + 1,
                    score,
                    _is_right(way, splits, row, item),
                )
                for rank, (item, score) in enumerate(
                    zip(items[hit_rows].tolist(), hit_scores.tolist(), strict=True)
                )
                if not (way.level == "class" and item == row and gallery is splits["test"])
            ]
            answer = (
                Hit(found.card(row, way.gallery), float(ranking.ranks()[place]), 0.0, right=True)
                if way.level == "instance"
                else cards[0]
            )
            queries.append(Query(asked.card(row, way.query), cards[:num_hits], answer))
        metrics = {
            s.metric: s.value for s in result.scores if (s.of, s.encoder) == (str(way), "trained")
        }
        directions.append(Direction(way.query, way.gallery, metrics, queries))
    facts = {
        "run": f"{result.run['path']}, step {result.run['step']}",
        **{role: f"{data.path}, {data.clips} clips" for role, data in result.data.items()},
        "protocol": "; ".join(task.protocol.lines()),
        **{f"note {n + 1}": note for n, note in enumerate(result.notes)},
    }
    chance = {s.metric: s.value for s in reversed(result.scores) if s.encoder == CHANCE}
    path = outcome.out / "index.html"
    path.write_text(retrieval_page("Retrieval", facts, directions, chance), encoding="utf-8")
    return path


def _is_right(way: Way, splits: Mapping[str, Split], row: int, item: int) -> bool:
    if way.level == "instance":
        return row == item
    return splits["test"].labels[row] == gallery_of(splits).labels[item]


class _Cards:
    """Cards of a split's clips, made when first asked for."""

    def __init__(self, run: Run, split: Split) -> None:
        self._split, self._log_mel = split, run.config.log_mel
        names = split.modalities
        self._reader = SegmentReader(
            split.dataset,
            run.config.segment,
            video="video" in names or "image" in names,
            audio="audio" in names,
        )
        self._made: dict[int, dict[str, Card]] = {}

    def card(self, row: int, modality: str) -> Card:
        if row not in self._made:
            self._made[row] = self._make(row)
        return self._made[row][modality]

    def _make(self, row: int) -> dict[str, Card]:
        number = int(self._split.numbers[row])
        sample, metadata = self._split.dataset.sample(number), self._split.dataset.metadata(number)
        middle = self._reader.starts(sample, np.array([0.5]))
        (segment,) = self._reader.segments(number, middle.tolist())
        key = self._split.keys[row]
        caption = ", ".join(
            filter(None, (str(metadata.get("label") or ""), clip_name(key, metadata)))
        )
        cards = {}
        if segment.video is not None:
            cards["video"] = Card(key, caption, frames_picture(rgb_frames(segment)))
            cards["image"] = cards["video"]
        if segment.audio is not None:
            cards["audio"] = Card(
                key,
                caption,
                log_mel_picture(log_mel(segment, self._log_mel)),
                mp3_audio(segment.audio, segment.sample_rate_hz),
            )
        return cards
