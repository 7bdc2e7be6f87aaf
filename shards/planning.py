"""The lines of `plan.jsonl`: one for each source, in order, before anything is encoded.

What a build makes follows from them and its options; its digest tells one build from another.
"""

from dataclasses import asdict
from fractions import Fraction
from typing import Any

from shards import media
from shards.cutting import PlannedSource, clip_counts, clips_after_end, tails
from shards.options import BuildOptions
from shards.pool import WorkerFailure
from shards.sources import Source


def plan_line(
    number: int, source: Source, found: media.Probe | WorkerFailure, options: BuildOptions
) -> dict[str, Any]:
    """What a probe found, what will be cut of it, and what is skipped or left out by then."""
    line: dict[str, Any] = {"number": number, "name": source.name, "path": str(source.path)}
    if source.listed:
        line["listed"] = source.listed
    if isinstance(found, WorkerFailure):
        error = found.error
        return line | {"skip": [error.stage, error.cause, error.detail]}
    line |= asdict(found) | {"row": source.row}
    line["origin"], line["duration_seconds"] = str(found.origin), str(found.duration_seconds)
    if source.range_text:
        line["range"] = [source.range_text, str(source.start_seconds)]
        line["range"] += [str(source.stop_seconds)] if source.stop_seconds is not None else []
    if "audio" in options.require and not found.has_audio:
        return line | {"skip": ["probe", "no audio stream", "needed: see --require"]}
    planned = planned_source(line)
    counts = clip_counts(planned, options)
    start, stop = planned.span
    if start >= found.duration_seconds > 0:
        detail = f"from {float(start):.3f} s; the source has {float(found.duration_seconds):.3f} s"
        return line | {"skip": ["cut", "the range begins after the source's end", detail]}
    if not any(counts.values()):
        has, needs = float(stop - start), float(options.clip_length)
        detail = f"{has:.3f} s; a clip is {needs:g} s"
        return line | {"skip": ["cut", "too short for one clip", detail]}
    left_out = {
        "a tail shorter than a clip": tails(planned, options),
        "the range goes on after the source's end": clips_after_end(planned, options),
    }
    if any(left_out.values()):
        line["skipped_clips"] = {cause: n for cause, n in left_out.items() if n}
    return line | {"clips": sum(counts.values())}


def planned_source(line: dict[str, Any]) -> PlannedSource:
    """The source of a line that is not skipped."""
    range_text, start, *stop = line.get("range", ["", "0"])
    return PlannedSource(
        number=line["number"],
        name=line["name"],
        path=line["path"],
        size=line["size"],
        mtime_ns=line["mtime_ns"],
        origin=Fraction(line["origin"]),
        duration_seconds=Fraction(line["duration_seconds"]),
        has_audio=line["has_audio"],
        row=line["row"],
        start_seconds=Fraction(start),
        stop_seconds=Fraction(stop[0]) if stop else None,
        range_text=range_text,
    )
