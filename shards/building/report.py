"""Account for every source: `report.jsonl` has one line for each, the summary counts by cause.

While a build runs, each shard leaves the lines of its units under `.build/`; they are in source
order, so the report is their merge, and memory does not grow with the number of sources.
"""

import heapq
import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path
from typing import Any, Self

from shards.building.planned_source import PlannedSource, read_plan
from shards.building.worker_pool import TOOK_TOO_LONG
from shards.errors import BuildError
from shards.format.json_text import read_jsonl
from shards.plural import plural

MAX_NAMED = 3


@dataclass
class BuildSummary:
    """What came of a build.

    sources = made + skipped: `made` became at least one clip, `skipped_sources` counts the others
    by cause; `skipped_clips` counts, by cause, clips that sources of both kinds did not give;
    `repeated` counts files that were given more than once, by what gave them, and taken once;
    `notes` say what was made of a list's columns;
    `deinterlaced_clips`, of those that were made, the ones whose frames were interlaced;
    `tone_mapped_clips` those whose colours were HDR or wide;
    `first_skipped` holds the names of the first sources that were skipped, and why;
    `labels_without_source` counts rows of the labels file, `first_labels` names some of them.
    """

    sources: int = 0
    made: int = 0
    clips: int = 0
    clips_by_part: Counter[str] = field(default_factory=Counter)
    skipped_sources: Counter[str] = field(default_factory=Counter)
    skipped_clips: Counter[str] = field(default_factory=Counter)
    deinterlaced_clips: int = 0
    tone_mapped_clips: int = 0
    repeated: Counter[tuple[str, str]] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)
    already_built: bool = False
    first_skipped: list[tuple[str, str]] = field(default_factory=list)
    labels_without_source: int = 0
    first_labels: list[str] = field(default_factory=list)

    @property
    def took_too_long(self) -> bool:
        """Whether anything was given up after the time limit."""
        given_up = {TOOK_TOO_LONG, f"worker: {TOOK_TOO_LONG}"}  # in the survey, while encoding
        return any(cause in given_up for cause in self.skipped_sources + self.skipped_clips)

    def __str__(self) -> str:
        lost = sum(self.skipped_sources.values())
        made = f"{plural(self.clips, 'clip')} of {plural(self.made, 'source')}"
        return f"{made}; {lost} of {plural(self.sources, 'source')} skipped"


@dataclass(frozen=True)
class UnitReport:
    """What one unit adds to its source's account.

    Attributes:
        number, name: of the source.
        part: "" or "train" or "val".
        clips: how many were made.
        skipped: how many were not, by cause.
        details: notes for people.
        deinterlaced: how many of the clips are of interlaced video.
        tone_mapped: how many are of HDR or wide colours.
    """

    number: int
    name: str
    part: str
    clips: int
    skipped: Mapping[str, int] = field(default_factory=dict)
    details: tuple[str, ...] = ()
    deinterlaced: int = 0
    tone_mapped: int = 0

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        line = vars(self) | {"skipped": dict(self.skipped), "details": list(self.details)}
        return {k: v for k, v in line.items() if v or k not in ("deinterlaced", "tone_mapped")}

    @classmethod
    def from_json(cls, line: Mapping[str, Any]) -> Self:
        """The report that `to_json` gave."""
        return cls(**{**line, "details": tuple(line["details"])})


def source_lines(plan: Path, units: Iterable[Iterable[UnitReport]]) -> Iterator[dict[str, Any]]:
    """One line per source: the plan's, with what its units made (for each part, in shard order)."""
    groups = itertools.groupby(
        heapq.merge(*units, key=attrgetter("number")), key=attrgetter("number")
    )
    group = next(groups, None)
    for planned in read_plan(plan):
        own: list[UnitReport] = []
        if group is not None and group[0] == planned.number:
            own = list(group[1])
            group = next(groups, None)
        yield _source_line(planned, own)


def _source_line(planned: PlannedSource, units: Sequence[UnitReport]) -> dict[str, Any]:
    clips: Counter[str] = Counter()
    skipped = Counter(planned.skipped_clips)
    for unit in units:
        clips[unit.part or "all"] += unit.clips
        skipped.update(unit.skipped)
    line: dict[str, Any] = {"source": planned.source.name, "clips": sum(clips.values())}
    if planned.source.listed:
        line["listed"] = planned.source.listed
    if any(part != "all" for part in clips):
        line["clips_by_part"] = dict(clips)
    if deinterlaced := sum(unit.deinterlaced for unit in units):
        line["deinterlaced_clips"] = deinterlaced
    if tone_mapped := sum(unit.tone_mapped for unit in units):
        line["tone_mapped_clips"] = tone_mapped
    if skipped:
        line["skipped_clips"] = dict(skipped)
    if details := [detail for unit in units for detail in unit.details]:
        line["details"] = details[:20]
    if line["clips"]:
        return line | {"outcome": "made"}
    if planned.skip is not None:
        stage, cause, detail = planned.skip
        return line | {"outcome": "skipped", "stage": stage, "cause": cause, "detail": detail}
    cause = _cause(planned, units)
    return line | {"outcome": "skipped", "stage": "decode" if units else "cut", "cause": cause}


def _cause(planned: PlannedSource, units: Sequence[UnitReport]) -> str:
    """Why a source gave no clip: a worker that ended goes before what else units met.

    That goes before what was left out as the source was planned, such as a tail.
    """
    met = sum((Counter(unit.skipped) for unit in units), Counter[str]())
    crashes = Counter({cause: n for cause, n in met.items() if cause.startswith("worker: ")})
    for causes in (crashes, met, Counter(planned.skipped_clips)):
        if causes:
            return causes.most_common(1)[0][0]
    return "no clip fits"


def read_report(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of a report.

    Raises:
        BuildError: it is damaged.
    """
    return report_lines(read_jsonl(path), f"{path}")


def report_lines(lines: Iterable[Any], name: str) -> Iterator[dict[str, Any]]:
    """The same for lines that were read, of the report called `name`."""
    try:
        for line in lines:
            counts = [line["clips"], *line.get("skipped_clips", {}).values()]
            counts += line.get("clips_by_part", {}).values()
            texts = [line["source"], line["outcome"] == "made" or line["cause"]]
            if not all(type(n) is int and n >= 0 for n in counts) or not all(texts):
                raise ValueError(f"{line}"[:200])
            yield line
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BuildError(f"{name} is damaged ({error!r}); move it aside.") from error


def count(lines: Iterable[dict[str, Any]], summary: BuildSummary) -> Iterator[dict[str, Any]]:
    """Pass report lines through, adding them to the summary."""
    for line in lines:
        summary.sources += 1
        summary.clips += line["clips"]
        alone = {"all": line["clips"]} if line["clips"] else {}
        summary.clips_by_part.update(line.get("clips_by_part", alone))
        summary.skipped_clips.update(line.get("skipped_clips", {}))
        summary.deinterlaced_clips += line.get("deinterlaced_clips", 0)
        summary.tone_mapped_clips += line.get("tone_mapped_clips", 0)
        if line["outcome"] == "made":
            summary.made += 1
        else:
            summary.skipped_sources[line["cause"]] += 1
            if len(summary.first_skipped) < MAX_NAMED:
                summary.first_skipped.append((line["source"], _why(line)))
        yield line


def _why(line: Mapping[str, Any]) -> str:
    """Why nothing was made of a source, by its line of the report."""
    detail = line.get("detail") or next(iter(line.get("details", ())), "")
    return f"{line['cause']} ({detail})" if detail else str(line["cause"])
