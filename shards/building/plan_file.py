"""The lines of `plan.jsonl`: one for each source, in order, before anything is encoded.

What a build makes follows from them and its options; its digest tells one build from another.
"""

from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any

from shards.building.clip_plan import (
    PlannedSource,
    clip_counts,
    clips_after_end,
    clips_cut_off,
    tails,
)
from shards.building.worker_pool import TOOK_TOO_LONG, WorkerFailure
from shards.encoding.stream_copy import cut_points
from shards.encoding.transcode import ENDS_EARLY
from shards.media.probe import Probe, probe
from shards.media.scene_cuts import scene_cuts
from shards.options import BuildOptions
from shards.plural import plural
from shards.sources.source import Source
from shards.storage.opening import Location, open_source

TAIL = "a tail shorter than a clip"
TOO_SHORT = "a scene or rest shorter than the shortest clip"


@dataclass(frozen=True)
class SurveyResult:
    """What was found out about a source before it is cut.

    scene_cuts: see scene_cuts.py; borders: see stream_copy.py; both only where they are needed.
    """

    probe: Probe
    scene_cuts: tuple[Fraction, ...] = ()
    cut_points: tuple[Fraction, ...] = ()


def survey(source: Source, options: BuildOptions) -> SurveyResult:
    """Find out what cutting a source takes; called in a worker.

    Raises:
        SourceError: the source cannot become clips, and why.
    """
    source.check()
    probed = probe(source.location)
    usable = probed.has_audio or not options.requires_audio
    if not usable or not (options.cut == "scenes" or options.copies):
        return SurveyResult(probed)
    stop = probed.duration_seconds
    if source.stop_seconds is not None:
        stop = min(stop, source.stop_seconds)
    own = options.for_source(probed.frame_rate, (probed.width, probed.height))
    allowed: tuple[Fraction, ...] = ()
    cuts: tuple[Fraction, ...] = ()
    with open_source(source.location) as opened:
        if options.copies:
            allowed = cut_points(opened.file, own)
        if options.cut == "scenes":
            cuts = scene_cuts(
                opened.file,
                probed.origin,
                source.start_seconds,
                stop,
                seeks=not probed.clock_jumps,
            )
    return SurveyResult(probed, cuts, allowed)


def plan_line(
    number: int, source: Source, found: SurveyResult | WorkerFailure, options: BuildOptions
) -> dict[str, Any]:
    """What a probe found, what will be cut of it, and what is skipped or left out by then."""
    line: dict[str, Any] = {"number": number, "name": source.name}
    line["location"] = source.location.as_list()
    if source.listed:
        line["listed"] = source.listed
    if isinstance(found, WorkerFailure):
        error = found.error
        # which limit it was is no part of a plan: with another one the build can still go on
        detail = "" if error.cause == TOOK_TOO_LONG else error.detail
        return line | {"skip": [error.stage, error.cause, detail]}
    probed = found.probe
    facts = asdict(probed)
    if not probed.clock_jumps:
        del facts["clock_jumps"]
    line |= {k: str(v) if isinstance(v, Fraction) else v for k, v in facts.items()}
    line["row"] = dict(source.row)
    for name in ("scene_cuts", "cut_points"):
        if times := getattr(found, name):
            line[name] = [str(time) for time in times]
    if source.range_text:
        line["range"] = [source.range_text, str(source.start_seconds)]
        line["range"] += [str(source.stop_seconds)] if source.stop_seconds is not None else []
    if options.requires_audio and not probed.has_audio:
        return line | {"skip": ["probe", "no audio stream", "needed: see --require"]}
    planned = planned_source(line)
    counts = clip_counts(planned, options)
    start, stop = planned.span
    if start >= probed.duration_seconds > 0:
        detail = f"from {float(start):.3f} s; the source has {float(probed.duration_seconds):.3f} s"
        return line | {"skip": ["cut", "the range begins after the source's end", detail]}
    if not any(counts.values()):
        exact = options.for_source(planned.frame_rate, planned.picture_size)
        detail = f"{float(stop - start):.3f} s"
        scenes = plural(len(planned.scene_cuts) + 1, "scene")
        detail += f" in {scenes}" if options.cut == "scenes" else ""
        detail += f"; a clip is {float(exact.fewest_frames / exact.frame_rate):g} s"
        detail += " or more" if options.remainders else ""
        return line | {"skip": ["cut", "too short for one clip", detail]}
    left_out = {
        TOO_SHORT if options.remainders else TAIL: tails(planned, options),
        "the range goes on after the source's end": clips_after_end(planned, options),
        ENDS_EARLY: clips_cut_off(planned, options),
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
        location=Location(*line["location"]),
        size=line["size"],
        version=line["version"],
        origin=Fraction(line["origin"]),
        duration_seconds=Fraction(line["duration_seconds"]),
        frame_rate=Fraction(line["frame_rate"]),
        picture_size=(line["width"], line["height"]),
        has_audio=line["has_audio"],
        row=line["row"],
        start_seconds=Fraction(start),
        stop_seconds=Fraction(stop[0]) if stop else None,
        range_text=range_text,
        clock_jumps=line.get("clock_jumps", False),
        scene_cuts=tuple(Fraction(time) for time in line.get("scene_cuts", ())),
        cut_points=tuple(Fraction(time) for time in line.get("cut_points", ())),
    )
