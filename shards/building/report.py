"""Account for every source: `report.jsonl` has one line for each, the summary counts by cause.

While a build runs, each shard leaves the lines of its units under `.build/`; they are in source
order, so the report is their merge, and memory does not grow with the number of sources.
"""

import gzip
import hashlib
import heapq
import itertools
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shards.building.worker_pool import TOOK_TOO_LONG
from shards.format.sample import json_bytes
from shards.plural import plural


@dataclass
class BuildSummary:
    """What came of a build.

    sources = made + skipped: `made` became at least one clip, `skipped_sources` counts the others
    by cause; `skipped_clips` counts, by cause, clips that sources of both kinds did not give;
    `repeated` counts files that were given more than once, by what gave them, and taken once;
    `deinterlaced_clips`, of those that were made, the ones whose pictures were interlaced.
    """

    sources: int = 0
    made: int = 0
    clips: int = 0
    clips_by_part: Counter[str] = field(default_factory=Counter)
    skipped_sources: Counter[str] = field(default_factory=Counter)
    skipped_clips: Counter[str] = field(default_factory=Counter)
    deinterlaced_clips: int = 0
    repeated: Counter[tuple[str, str]] = field(default_factory=Counter)
    already_built: bool = False
    labels_without_source: list[str] = field(default_factory=list)

    @property
    def took_too_long(self) -> bool:
        """Whether anything was given up after the time limit."""
        given_up = {TOOK_TOO_LONG, f"worker: {TOOK_TOO_LONG}"}  # in the survey, while encoding
        return any(cause in given_up for cause in self.skipped_sources + self.skipped_clips)

    def __str__(self) -> str:
        lost = sum(self.skipped_sources.values())
        made = f"{plural(self.clips, 'clip')} of {plural(self.made, 'source')}"
        return f"{made}; {lost} of {plural(self.sources, 'source')} skipped"


def jsonl(lines: Iterable[dict[str, Any]]) -> bytes:
    """Lines of json, keys sorted."""
    return b"".join(json_bytes(line) + b"\n" for line in lines)


def read_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of a file that `jsonl` made; gzipped, where its name says so."""
    with _opened(path) as file:
        for line in file:
            yield json.loads(line)


def jsonl_sha256(path: Path) -> str:
    """The digest of such a file's lines, whether they are gzipped or not."""
    with _opened(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _opened(path: Path) -> Any:
    return (gzip.open if path.suffix == ".gz" else open)(path, "rb")


def unit_line(
    number: int, name: str, part: str, clips: int, skipped: dict[str, int], details: Iterable[str]
) -> dict[str, Any]:
    """What one unit adds to its source's account."""
    line = {"number": number, "name": name, "part": part, "clips": clips, "skipped": skipped}
    return line | {"details": list(details)}


def source_lines(
    plan: Path, unit_lines: Iterable[Iterable[dict[str, Any]]]
) -> Iterator[dict[str, Any]]:
    """One line per source: the plan's, with what its units made (for each part, in shard order)."""
    units = heapq.merge(*unit_lines, key=lambda line: int(line["number"]))
    groups = itertools.groupby(units, key=lambda line: line["number"])
    group = next(groups, None)
    for planned in read_jsonl(plan):
        own: list[dict[str, Any]] = []
        if group is not None and group[0] == planned["number"]:
            own = list(group[1])
            group = next(groups, None)
        yield _source_line(planned, own)


def _source_line(planned: dict[str, Any], units: list[dict[str, Any]]) -> dict[str, Any]:
    clips: Counter[str] = Counter()
    skipped: Counter[str] = Counter(planned.get("skipped_clips", {}))
    details: list[str] = []
    deinterlaced = sum(unit.get("deinterlaced", 0) for unit in units)
    for unit in units:
        clips[unit["part"] or "all"] += unit["clips"]
        skipped.update(unit["skipped"])
        details += unit["details"]
    line: dict[str, Any] = {"source": planned["name"], "clips": sum(clips.values())}
    if "listed" in planned:
        line["listed"] = planned["listed"]
    if any(part != "all" for part in clips):
        line["clips_by_part"] = dict(clips)
    if deinterlaced:
        line["deinterlaced_clips"] = deinterlaced
    if skipped:
        line["skipped_clips"] = dict(skipped)
    if details:
        line["details"] = details[:20]
    if line["clips"]:
        return line | {"outcome": "made"}
    if "skip" in planned:
        stage, cause, detail = planned["skip"]
        return line | {"outcome": "skipped", "stage": stage, "cause": cause, "detail": detail}
    cause = skipped.most_common(1)[0][0] if skipped else "no clip fits"
    return line | {"outcome": "skipped", "stage": "decode" if units else "cut", "cause": cause}


def count(lines: Iterable[dict[str, Any]], summary: BuildSummary) -> Iterator[dict[str, Any]]:
    """Pass report lines through, adding them to the summary."""
    for line in lines:
        summary.sources += 1
        summary.clips += line["clips"]
        alone = {"all": line["clips"]} if line["clips"] else {}
        summary.clips_by_part.update(line.get("clips_by_part", alone))
        summary.skipped_clips.update(line.get("skipped_clips", {}))
        summary.deinterlaced_clips += line.get("deinterlaced_clips", 0)
        if line["outcome"] == "made":
            summary.made += 1
        else:
            summary.skipped_sources[line["cause"]] += 1
        yield line
