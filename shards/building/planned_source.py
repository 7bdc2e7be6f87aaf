"""A source as it is planned: the record that is a line of `plan.jsonl`.

What a build makes follows from its plan and its options; the digest of the plan tells one build
from another, so what stands in a line is fixed.
"""

import gzip
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any, Self

from shards.building.survey import Survey
from shards.errors import BuildError
from shards.format.json_text import read_jsonl
from shards.media.probe import Probe
from shards.sources.source import Source
from shards.storage.opening import Location

_PROBE = tuple(f.name for f in fields(Probe))
_EXACT = tuple(f.name for f in fields(Probe) if f.type is Fraction)
_FIELDS = {"number", "name", "location", "listed", "row", "scene_cuts", "borders", "range"}
_FIELDS |= {"skip", "skipped_clips", "clips", *_PROBE}


@dataclass(frozen=True)
class PlannedSource:
    """A source, what its survey found, and what is made or left out of it.

    Attributes:
        number: its place in the list of all sources, from 1.
        source: the source as it was listed.
        survey: None where it failed.
        skip: stage, cause and detail of why nothing is made of it; None where clips are.
        clips: how many clips are cut from it.
        skipped_clips: how many clips are known to be left out, by cause.
    """

    number: int
    source: Source
    survey: Survey | None
    skip: tuple[str, str, str] | None = None
    clips: int = 0
    skipped_clips: Mapping[str, int] = field(default_factory=dict)

    @property
    def found(self) -> Survey:
        """The survey of a source that is not skipped."""
        if self.survey is None:
            raise ValueError(f"{self.source.name} was skipped before it was surveyed")
        return self.survey

    @property
    def span(self) -> tuple[Fraction, Fraction]:
        """The range to cut, [start, stop) in seconds; empty if it begins after the source's end."""
        return self.source.range_within(self.found.probe.duration_seconds)

    def to_json(self) -> dict[str, Any]:
        """The line: plain values; times as fractions, what is empty left out."""
        source, survey = self.source, self.survey
        line: dict[str, Any] = {"number": self.number, "name": source.name}
        line["location"] = source.location.as_list()
        if source.listed:
            line["listed"] = source.listed
        if survey is not None:
            probe = {name: getattr(survey.probe, name) for name in _PROBE}
            line |= probe | {name: str(probe[name]) for name in _EXACT}
            for name in ("clock_jumps", "has_unread_rest"):
                if not line[name]:
                    del line[name]  # as it was before it was known
            line["row"] = dict(source.row)
            if survey.scene_cuts:
                line["scene_cuts"] = [str(time) for time in survey.scene_cuts]
            if survey.cut_points:
                line["borders"] = [str(time) for time in survey.cut_points]  # their first name
            if source.range_text:
                stop = [] if source.stop_seconds is None else [str(source.stop_seconds)]
                line["range"] = [source.range_text, str(source.start_seconds), *stop]
        if self.skip is not None:
            return line | {"skip": list(self.skip)}
        if self.skipped_clips:
            line["skipped_clips"] = dict(self.skipped_clips)
        return line | {"clips": self.clips}

    @classmethod
    def from_json(cls, line: Mapping[str, Any]) -> Self:
        """The record of a line.

        Raises:
            KeyError, TypeError, ValueError: it is none that `to_json` made.
        """
        if unknown := line.keys() - _FIELDS:
            raise ValueError(f"unknown field {min(unknown)}")
        survey = None
        _, start, *stop = line.get("range", ("", "0"))
        if "width" in line:
            probe = {name: line[name] for name in _PROBE if name in line}
            survey = Survey(
                Probe(**probe | {name: _fraction(probe[name]) for name in _EXACT}),
                tuple(Fraction(time) for time in line.get("scene_cuts", ())),
                tuple(Fraction(time) for time in line.get("borders", ())),
            )
        source = Source(
            name=line["name"],
            location=Location(*line["location"]),
            row=line.get("row", {}),
            start_seconds=Fraction(start),
            stop_seconds=Fraction(stop[0]) if stop else None,
            listed=line.get("listed", ""),
        )
        skip = tuple(line["skip"]) if "skip" in line else None
        clips = line["clips"] if skip is None else 0
        skipped_clips = line.get("skipped_clips", {})
        return cls(line["number"], source, survey, skip, clips, skipped_clips)


#: Few sources have a rate or a length of their own.
_fraction = lru_cache(4096)(Fraction)


def read_plan(path: Path) -> Iterator[PlannedSource]:
    """The lines of a plan.

    Raises:
        BuildError: a line is damaged, or of a version that this one does not know.
    """
    try:
        for line in read_jsonl(path):
            yield PlannedSource.from_json(line)
    except (KeyError, TypeError, ValueError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise BuildError(
            f"{path} is damaged or of another version ({error!r}): build anew, in another folder."
        ) from error
