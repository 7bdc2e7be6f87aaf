"""Plan a source: cut it once, and say how many clips it gives, or why it is skipped."""

from dataclasses import replace

from shards.building.clip_plan import (
    clips_after_end,
    clips_cut_off,
    cut_source,
    too_short_remainders,
)
from shards.building.planned_source import PlannedSource
from shards.building.survey import Survey
from shards.building.worker_pool import TOOK_TOO_LONG, WorkerFailure
from shards.encoding.transcode import ENDS_EARLY
from shards.options import BuildOptions
from shards.plural import plural
from shards.sources.source import Source

TAIL = "a tail shorter than a clip"
TOO_SHORT = "a scene or remainder shorter than the shortest clip"
AFTER_END = "the range goes on after the source's end"
REST = "what comes after the video's end is not read (are several recordings joined?)"


def plan_source(
    number: int, source: Source, found: Survey | WorkerFailure, options: BuildOptions
) -> PlannedSource:
    """What will be made of source `number`, after its survey."""
    if isinstance(found, WorkerFailure):
        error = found.error
        # which limit it was is no part of a plan: with another one the build can still go on
        detail = "" if error.cause == TOOK_TOO_LONG else error.detail
        return PlannedSource(number, source, None, (error.stage, error.cause, detail))
    planned = PlannedSource(number, source, found)
    if options.requires_audio and not found.probe.has_audio:
        return replace(planned, skip=("probe", "no audio stream", "needed: see --require"))
    (start, _), duration = planned.span, found.probe.duration_seconds
    if start >= duration > 0:
        detail = f"from {float(start):.3f} s; the source has {float(duration):.3f} s"
        return replace(planned, skip=("cut", "the range begins after the source's end", detail))
    cuts = cut_source(planned, options)
    clips = sum(len(cut.clips) for cut in cuts.values())
    if not clips:
        detail = _why_too_short(planned, options)
        return replace(planned, skip=("cut", "too short for one clip", detail))
    left_out = {
        TOO_SHORT if options.remainders else TAIL: too_short_remainders(cuts, options),
        AFTER_END: clips_after_end(planned, options),
        ENDS_EARLY: clips_cut_off(planned, options),
        REST: int(planned.found.probe.has_unread_rest),
    }
    return replace(planned, clips=clips, skipped_clips={c: n for c, n in left_out.items() if n})


def _why_too_short(planned: PlannedSource, options: BuildOptions) -> str:
    probe, (start, stop) = planned.found.probe, planned.span
    exact = options.for_source(probe.frame_rate, probe.frame_size)
    shortest = f"{float(exact.fewest_frames / exact.frame_rate):g} s"
    scenes = plural(len(planned.found.scene_cuts) + 1, "scene")
    return (
        f"{float(stop - start):.3f} s"
        + (f" in {scenes}" if options.cut == "scenes" else "")
        + f"; a clip is {shortest}"
        + (" or more" if options.remainders else "")
    )
