"""From a run and a data set to retrieval numbers, saved embeddings and the retrieval page.

OUT/embeddings.safetensors   one embedding a clip and modality, with keys
OUT/metrics.json             both directions and chance
OUT/skipped.jsonl            clips that could not be decoded, if there were any
OUT/index.html               the page, see tools/display/retrieval_page.py
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.decoding.segment import SegmentOptions
from pipelines.decoding.segment_reader import SegmentReader
from pipelines.skips import SkipLog
from shards import Dataset
from shards.plural import plural
from tools.display.progress_bar import progress_bar
from tools.display.retrieval_cards import frames_picture, log_mel_picture, mp3_audio
from tools.display.retrieval_page import Card, Direction, Hit, Query, metric_text, retrieval_page
from tools.display.segment_views import log_mel, rgb_frames
from tools.evaluation.embeddings import ClipEmbeddings, embed_clips
from tools.evaluation.retrieval import Ranking, chance_metrics, rank_pairs, top_hits
from tools.runs.run import Run, choose_device, load_run
from tools.runs.run_folder import RunError

DIRECTIONS = (("audio", "video"), ("video", "audio"))
TRAINED_ON_THESE = (
    "The run was trained on these very clips: the numbers say what it remembers, not what it can "
    "find. Evaluate on clips that were held out."
)


@dataclass(frozen=True)
class RetrievalResult:
    """What was found, and where it was written.

    Args:
        metrics: "audio → video" and "video → audio" → metric → value.
        chance: metric → what random embeddings score.
        num_clips: N, clips that were embedded.
        num_skipped: Clips that could not be.
        segments_per_clip: Segments averaged.
        trained_on_these: Whether these are the clips that the run was trained on.
        out: The folder of the results.
    """

    metrics: Mapping[str, Mapping[str, float]]
    chance: Mapping[str, float]
    num_clips: int
    num_skipped: int
    segments_per_clip: int
    trained_on_these: bool
    out: Path

    @property
    def page(self) -> Path:
        """The retrieval page."""
        return self.out / "index.html"


def evaluate_retrieval(
    run_path: Path,
    shards: str | Path,
    out: Path,
    *,
    segments_per_clip: int = 5,
    num_queries: int = 12,
    num_hits: int = 5,
    batch_size: int = 16,
    threads: int = 2,
    device: str = "auto",
) -> RetrievalResult:
    """Evaluates audio-visual retrieval both ways and writes everything into `out`.

    Raises:
        RunError: No run, no checkpoint, or a run that has no audio and video to compare.
        ShardError: No data set in `shards`.
        TooManySkipsError: Too many clips cannot be decoded.
    """
    on, run = choose_device(device), load_run(run_path)
    if not {"audio", "video"} <= set(run.plan.modalities):
        raise RunError(
            f"{run_path}: its plan has the modalities {', '.join(run.plan.modalities)}; retrieval "
            "needs video and audio. For a model of images use `gdt evaluate knn`"
        )
    dataset = Dataset.open(shards, remote=run.config.data.remote)
    out.mkdir(parents=True, exist_ok=True)
    skipped = out / "skipped.jsonl"
    skipped.unlink(missing_ok=True)
    with progress_bar("embedding clips") as progress:
        embeddings = embed_clips(
            run,
            dataset,
            segments_per_clip=segments_per_clip,
            batch_size=batch_size,
            threads=threads,
            device=on,
            skip_log=SkipLog(skipped),
            report=progress,
        )
    embeddings.save(out / "embeddings.safetensors")
    rankings = {
        (query, gallery): rank_pairs(embeddings.modalities[query], embeddings.modalities[gallery])
        for query, gallery in DIRECTIONS
    }
    result = RetrievalResult(
        metrics={f"{q} → {g}": ranking.metrics() for (q, g), ranking in rankings.items()},
        chance=chance_metrics(len(embeddings.keys)),
        num_clips=len(embeddings.keys),
        num_skipped=len(dataset) - len(embeddings.keys),
        segments_per_clip=segments_per_clip,
        trained_on_these=dataset.fingerprint in run.trained_on,
        out=out,
    )
    facts = {
        "run": f"{run_path}, step {run.step}",
        "shards": str(shards),
        "clips": str(result.num_clips),
        "skipped": str(result.num_skipped),
        "segments a clip": str(segments_per_clip),
    }
    if result.trained_on_these:
        facts["note"] = TRAINED_ON_THESE
    _write_metrics(result, facts, embeddings)
    page = _page(run, dataset, embeddings, rankings, result, facts, num_queries, num_hits)
    result.page.write_text(page, encoding="utf-8")
    return result


def print_report(result: RetrievalResult) -> None:
    """Prints the table beside chance, and where the files are."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, title="audio-visual retrieval", title_justify="left")
    table.add_column("")
    for name in result.chance:
        table.add_column(name, justify="right")
    for direction, metrics in result.metrics.items():
        table.add_row(direction, *(metric_text(name, metrics[name]) for name in result.chance))
    chance = (metric_text(name, value) for name, value in result.chance.items())
    table.add_row("chance", *chance, style="dim")
    console = Console()
    console.print(table)
    skipped = f", {result.num_skipped} skipped (skipped.jsonl)" if result.num_skipped else ""
    lines = (
        f"{plural(result.num_clips, 'clip')}{skipped}, "
        f"{plural(result.segments_per_clip, 'segment')} a clip",
        f"embeddings  {result.out / 'embeddings.safetensors'}",
        f"metrics     {result.out / 'metrics.json'}",
        f"page        {result.page}",
    )
    for line in lines:
        console.print(line, soft_wrap=True, highlight=False, markup=False)
    if result.trained_on_these:
        console.print(TRAINED_ON_THESE, style="yellow", highlight=False)


def _write_metrics(
    result: RetrievalResult, facts: Mapping[str, str], embeddings: ClipEmbeddings
) -> None:
    content = {
        "metrics": result.metrics,
        "chance": result.chance,
        "clips": result.num_clips,
        "skipped": result.num_skipped,
        "trained_on_these": result.trained_on_these,
        "run": facts["run"],
        "shards": facts["shards"],
        **embeddings.facts,
    }
    text = json.dumps(content, indent=2, ensure_ascii=False)
    (result.out / "metrics.json").write_text(text + "\n", encoding="utf-8")


def _page(
    run: Run,
    dataset: Dataset,
    embeddings: ClipEmbeddings,
    rankings: Mapping[tuple[str, str], Ranking],
    result: RetrievalResult,
    facts: Mapping[str, str],
    num_queries: int,
    num_hits: int,
) -> str:
    """Decodes the middle segment of each clip that is shown, and renders the page."""
    num_clips = len(embeddings.keys)
    shown = np.unique(np.linspace(0, num_clips - 1, min(num_queries, num_clips)).astype(int))
    cards = _Cards(run, dataset, embeddings)
    directions = []
    for (query_name, gallery_name), ranking in rankings.items():
        queries = [
            _query(row, query_name, gallery_name, embeddings, ranking, cards, num_hits)
            for row in shown.tolist()
        ]
        metrics = result.metrics[f"{query_name} → {gallery_name}"]
        directions.append(Direction(query_name, gallery_name, metrics, queries))
    return retrieval_page("Audio-visual retrieval", facts, directions, result.chance)


def _query(
    row: int,
    query_name: str,
    gallery_name: str,
    embeddings: ClipEmbeddings,
    ranking: Ranking,
    cards: "_Cards",
    num_hits: int,
) -> Query:
    query = embeddings.modalities[query_name][row]
    gallery = embeddings.modalities[gallery_name]
    rows, scores = top_hits(query, gallery, num_hits)
    hits = [
        Hit(cards.card(found, gallery_name), place + 1, score, found == row)
        for place, (found, score) in enumerate(zip(rows.tolist(), scores.tolist(), strict=True))
    ]
    answer = Hit(
        cards.card(row, gallery_name),
        float(ranking.expected_ranks()[row]),
        float(gallery[row] @ query),
        right=True,
    )
    return Query(cards.card(row, query_name), hits, answer)


class _Cards:
    """Cards of clips, made when first asked for."""

    def __init__(self, run: Run, dataset: Dataset, embeddings: ClipEmbeddings) -> None:
        self._dataset, self._embeddings = dataset, embeddings
        self._log_mel = run.config.log_mel
        options: SegmentOptions = run.config.segment
        self._reader = SegmentReader(dataset, options)
        self._made: dict[int, dict[str, Card]] = {}

    def card(self, row: int, modality: str) -> Card:
        if row not in self._made:
            self._made[row] = self._make(row)
        return self._made[row][modality]

    def _make(self, row: int) -> dict[str, Card]:
        index = int(self._embeddings.samples[row])
        sample = self._dataset.sample(index)
        middle = self._reader.starts(sample, np.array([0.5]))
        (segment,) = self._reader.segments(index, middle.tolist())
        assert segment.audio is not None
        key, caption = self._embeddings.keys[row], _caption(self._dataset.metadata(index))
        return {
            "video": Card(key, caption, frames_picture(rgb_frames(segment))),
            "audio": Card(
                key,
                caption,
                log_mel_picture(log_mel(segment, self._log_mel)),
                mp3_audio(segment.audio, segment.sample_rate_hz),
            ),
        }


def _caption(metadata: Mapping[str, Any]) -> str:
    """A label and where in its source a clip lies, as far as its json says."""
    words = []
    if metadata.get("label") is not None:
        words.append(str(metadata["label"]))
    start = metadata.get("start_seconds")
    if isinstance(start, (int, float)):
        words.append(
            f"{int(start // 60)}:{start % 60:04.1f} in {metadata.get('source', 'its source')}"
        )
    return ", ".join(words)
