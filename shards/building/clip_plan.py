"""Cut sources into clips, and runs of clips into units and shards. Plain arithmetic, no files.

The clips of all sources, in order, fill shard after shard; a unit is the part of one source that
goes into one shard, not longer than `seconds_per_unit`, and is what a worker does at a time. All of
it depends on the sources and options alone, so any number of workers builds the same shards.
"""

import bisect
import hashlib
import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from operator import attrgetter
from typing import NamedTuple

from shards.building.planned_source import PlannedSource
from shards.encoding.reencode import Span
from shards.encoding.transcode import Unit
from shards.options import BuildOptions, exact_seconds

WHOLE, TRAIN, HELD_OUT = "", "train", "val"


class PartCut(NamedTuple):
    """What one part gets of a source: its clips, in order; how many remainders are too short."""

    clips: list[Span]
    remainders: int


def parts(options: BuildOptions) -> tuple[str, ...]:
    """The data sets a build makes: one, or train and val."""
    return (TRAIN, HELD_OUT) if options.holdout else (WHOLE,)


def ranges(
    planned: PlannedSource, options: BuildOptions
) -> dict[str, list[tuple[Fraction, Fraction]]]:
    """The time ranges of a source that each part gets; parts that get nothing are left out."""
    start, end = planned.span
    if not options.holdout:
        return {WHOLE: [(start, end)]}
    if options.split_by == "source":
        digest = hashlib.sha256(
            b"holdout\0" + planned.source.name.encode("utf-8", "surrogateescape")
        )
        held_out = int.from_bytes(digest.digest()[:8], "big") < options.holdout * 2**64
        return {HELD_OUT if held_out else TRAIN: [(start, end)]}
    if options.holdout_every is not None:
        return _stretches(start, end, options)
    trained = (end - start) * (1 - exact_seconds(options.holdout))
    split = _next_frame(start, trained, options)
    stop = max(start, split - exact_seconds(options.gap_seconds))
    return {TRAIN: [(start, stop)], HELD_OUT: [(split, end)]}


def _stretches(
    start: Fraction, end: Fraction, options: BuildOptions
) -> dict[str, list[tuple[Fraction, Fraction]]]:
    """Stretch after stretch: to train on, a gap, held out, a gap. The last one may be cut short."""
    every, held_out, gap = (
        exact_seconds(seconds or 0)
        for seconds in (options.holdout_every, options.holdout, options.gap_seconds)
    )
    found: dict[str, list[tuple[Fraction, Fraction]]] = {TRAIN: [], HELD_OUT: []}
    for number in range(math.ceil((end - start) / every)):
        begin = number * every
        for part, first, seconds in (
            (TRAIN, begin, every - held_out - 2 * gap),
            (HELD_OUT, begin + every - held_out - gap, held_out),
        ):
            here, there = _next_frame(start, first, options), min(end, start + first + seconds)
            if here < there:
                found[part].append((here, there))
    return {part: pieces for part, pieces in found.items() if pieces}


def _next_frame(start: Fraction, seconds: Fraction, options: BuildOptions) -> Fraction:
    """The time of the first frame `seconds` after `start` or later."""
    return start + Fraction(math.ceil(seconds * options.frame_rate)) / options.frame_rate


def cut_source(planned: PlannedSource, options: BuildOptions) -> dict[str, PartCut]:
    """Cut a source: what each part gets of it."""
    survey = planned.found
    options = options.for_source(survey.probe.frame_rate, survey.probe.frame_size)
    found = {}
    for part, stretches in ranges(planned, options).items():
        chosen = options.held_out if part == HELD_OUT else options
        pieces = [
            _cut_at_points(a, b, survey.cut_points, chosen)
            if chosen.copies
            else _cut_stretch(a, b, chosen)
            for start, stop in stretches
            for a, b in itertools.pairwise(
                [start, *(c for c in survey.scene_cuts if start < c < stop), stop]
            )
        ]
        clips = [clip for piece in pieces for clip in piece.clips]
        found[part] = PartCut(clips, sum(piece.remainders for piece in pieces))
    return found


def too_short_remainders(cuts: Mapping[str, PartCut], options: BuildOptions) -> int:
    """How many remainders of a source are too short for a clip.

    Where clips have one length, a part that has none is not counted: its source is skipped.
    """
    return sum(cut.remainders for cut in cuts.values() if cut.clips or options.remainders)


def clips_after_end(planned: PlannedSource, options: BuildOptions) -> int:
    """How many clips a range asks for that the source is too short for."""
    survey, stop = planned.found, planned.source.stop_seconds
    if stop is None or stop <= survey.probe.duration_seconds:
        return 0
    longer = replace(survey, probe=replace(survey.probe, duration_seconds=stop))
    alone = replace(options, holdout=0.0, holdout_every=None, holdout_clip_seconds=None)
    asked, got = (cut_source(s, alone)[WHOLE] for s in (replace(planned, survey=longer), planned))
    return len(asked.clips) - len(got.clips)


def clips_cut_off(planned: PlannedSource, options: BuildOptions) -> int:
    """Where video is copied: how many clips' time there is between the last one and the end."""
    points = planned.found.cut_points
    if not points:
        return 0
    start, stop = planned.span
    return max(0, int((stop - max(points[-1], start)) / exact_seconds(options.clip_seconds)))


def _cut_stretch(start: Fraction, stop: Fraction, options: BuildOptions) -> PartCut:
    """Clips from the start on, each as long as may be; and how many remainders there are.

    A frame belongs to the stretch that the middle of its interval lies in, so a clip may end up to
    half a frame after its stretch does, and a declared length may miss the last frame's own time.
    """
    rate = options.frame_rate
    frames = math.floor((stop - start) * rate + Fraction(1, 2))
    clips = []
    while frames >= options.fewest_frames:
        taken = min(frames, options.frames_per_clip)
        clips.append(Span(start, start + taken / rate))
        start += taken / rate
        frames -= taken
    return PartCut(clips, int(frames > 0))


def _cut_at_points(
    start: Fraction, stop: Fraction, cut_points: Sequence[Fraction], options: BuildOptions
) -> PartCut:
    """As `_cut_stretch`, but clips begin and end at cut points, from the first there on."""
    half_a_frame = 1 / (2 * options.frame_rate)
    shortest = options.fewest_frames / options.frame_rate - half_a_frame
    here = bisect.bisect_left(cut_points, start)
    last = bisect.bisect_right(cut_points, stop + half_a_frame) - 1
    clips, remainders = [], 0
    while here < last:
        longest = cut_points[here] + options.clip_length + half_a_frame
        there = max(here + 1, min(last, bisect.bisect_right(cut_points, longest) - 1))
        if cut_points[there] - cut_points[here] >= shortest:
            clips.append(Span(cut_points[here], cut_points[there]))
        else:
            remainders += 1
        here = there
    remainders += here < len(cut_points) and stop - cut_points[here] > half_a_frame
    return PartCut(clips, remainders)


def cut_shards(
    plan: Iterable[PlannedSource], part: str, options: BuildOptions
) -> Iterator[list[Unit]]:
    """The shards of one part, each as its units in order; sources that are skipped have none."""
    longest = exact_seconds(options.seconds_per_unit)
    shard: list[Unit] = []
    room = options.clips_per_shard
    for planned in plan:
        if planned.skip is not None:
            continue
        cuts = cut_source(planned, options)
        # held-out clips are numbered on from the training clips, so a key is used once
        number = len(cuts[TRAIN].clips) if part == HELD_OUT and TRAIN in cuts else 0
        left = cuts[part].clips if part in cuts else []
        while left:
            fit = bisect.bisect_right(left, left[0].start + longest, key=attrgetter("stop"))
            take = min(max(1, fit), room)
            shard.append(_unit(planned, part, number, tuple(left[:take])))
            number, left, room = number + take, left[take:], room - take
            if not room:
                yield shard
                shard, room = [], options.clips_per_shard
    if shard:
        yield shard


def _unit(planned: PlannedSource, part: str, first_clip: int, clips: tuple[Span, ...]) -> Unit:
    return Unit(planned.number, planned.source, planned.found.probe, part, first_clip, clips)
