"""Cut sources into clips, and runs of clips into units and shards. Plain arithmetic, no files.

The clips of all sources, in order, fill shard after shard; a unit is the part of one source that
goes into one shard, not longer than `seconds_per_unit`, and is what a worker does at a time. All of
it depends on the sources and options alone, so any number of workers builds the same shards.
"""

import bisect
import hashlib
import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from operator import attrgetter
from typing import Any

from shards.encoding.reencode import Span
from shards.encoding.transcode import Unit
from shards.options import BuildOptions, exact_seconds
from shards.storage.opening import Location

WHOLE, TRAIN, HELD_OUT = "", "train", "val"


@dataclass(frozen=True)
class PlannedSource:
    """A probed source that will be cut: times in seconds of its own clock.

    Clips are cut from [start_seconds, stop_seconds), and never after the source's end. frame_rate
    is the source's own; scene_cuts, in order, are the times that no clip may cross; borders, where
    pictures are copied, those at which one may begin or end. clock_jumps: see `Probe`.
    """

    number: int
    name: str
    location: Location
    size: int
    version: str
    origin: Fraction
    duration_seconds: Fraction
    frame_rate: Fraction
    picture_size: tuple[int, int]
    has_audio: bool
    row: dict[str, Any] = field(default_factory=dict)
    start_seconds: Fraction = Fraction(0)
    stop_seconds: Fraction | None = None
    range_text: str = ""
    clock_jumps: bool = False
    scene_cuts: tuple[Fraction, ...] = ()
    cut_points: tuple[Fraction, ...] = ()

    @property
    def span(self) -> tuple[Fraction, Fraction]:
        """The range that there is to cut; empty where it begins after the source's end."""
        stop = self.duration_seconds
        if self.stop_seconds is not None:
            stop = min(stop, self.stop_seconds)
        return self.start_seconds, max(self.start_seconds, stop)


def parts(options: BuildOptions) -> tuple[str, ...]:
    """The data sets a build makes: one, or train and val."""
    return (TRAIN, HELD_OUT) if options.holdout else (WHOLE,)


def ranges(source: PlannedSource, options: BuildOptions) -> dict[str, tuple[Fraction, Fraction]]:
    """The time range of a source that each part gets; parts that get nothing are left out."""
    start, end = source.span
    if not options.holdout:
        return {WHOLE: (start, end)}
    if options.split_by == "source":
        digest = hashlib.sha256(b"holdout\0" + source.name.encode("utf-8", "surrogateescape"))
        held_out = int.from_bytes(digest.digest()[:8], "big") < options.holdout * 2**64
        return {HELD_OUT if held_out else TRAIN: (start, end)}
    rate = options.frame_rate
    trained = (end - start) * (1 - exact_seconds(options.holdout))
    split = start + Fraction(math.ceil(trained * rate)) / rate
    stop = max(start, split - exact_seconds(options.gap_seconds))
    return {TRAIN: (start, stop), HELD_OUT: (split, end)}


def clip_spans(source: PlannedSource, options: BuildOptions) -> dict[str, list[Span]]:
    """The clips that each part gets of a source, in order."""
    return {part: clips for part, (clips, _) in _cut_parts(source, options).items()}


def clip_counts(source: PlannedSource, options: BuildOptions) -> dict[str, int]:
    """How many clips each part gets of a source."""
    return {part: len(clips) for part, clips in clip_spans(source, options).items()}


def tails(source: PlannedSource, options: BuildOptions) -> int:
    """How many rests of a source are too short for a clip.

    Where clips have one length, a part that has none is not counted: its source is skipped.
    """
    return sum(
        remainders
        for clips, remainders in _cut_parts(source, options).values()
        if clips or options.remainders
    )


def clips_after_end(source: PlannedSource, options: BuildOptions) -> int:
    """How many clips a range asks for that the source is too short for."""
    if source.stop_seconds is None:
        return 0
    whole = replace(source, duration_seconds=max(source.duration_seconds, source.stop_seconds))
    alone = replace(options, holdout=0.0)
    asked, got = (sum(clip_counts(s, alone).values()) for s in (whole, source))
    return asked - got


def clips_cut_off(source: PlannedSource, options: BuildOptions) -> int:
    """Where pictures are copied: how many clips' time there is between the last one and the end."""
    if not source.cut_points:
        return 0
    missing = source.span[1] - max(source.cut_points[-1], source.span[0])
    return max(0, int(missing / exact_seconds(options.clip_seconds)))


def _cut_parts(source: PlannedSource, options: BuildOptions) -> dict[str, tuple[list[Span], int]]:
    """Of each part: its clips, and how many rests are left out."""
    options = options.for_source(source.frame_rate, source.picture_size)
    found = {}
    for part, (start, stop) in ranges(source, options).items():
        scenes = [start, *(c for c in source.scene_cuts if start < c < stop), stop]
        pieces = [
            _cut_at_borders(a, b, source.cut_points, options)
            if options.copies
            else _cut_stretch(a, b, options)
            for a, b in itertools.pairwise(scenes)
        ]
        found[part] = (
            [clip for clips, _ in pieces for clip in clips],
            sum(rest for _, rest in pieces),
        )
    return found


def _cut_stretch(start: Fraction, stop: Fraction, options: BuildOptions) -> tuple[list[Span], int]:
    """Clips from the start on, each as long as may be; and how many rests are left.

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
    return clips, int(frames > 0)


def _cut_at_borders(
    start: Fraction, stop: Fraction, cut_points: Sequence[Fraction], options: BuildOptions
) -> tuple[list[Span], int]:
    """As `_cut_stretch`, but clips begin and end at borders, from the first in the stretch on."""
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
    return clips, remainders


def cut(sources: Iterable[PlannedSource], part: str, options: BuildOptions) -> Iterator[list[Unit]]:
    """The shards of one part, each as its units in order."""
    longest = exact_seconds(options.seconds_per_unit)
    shard: list[Unit] = []
    room = options.clips_per_shard
    for source in sources:
        spans = clip_spans(source, options)
        # held-out clips are numbered on from the training clips, so a key is used once
        number = len(spans.get(TRAIN, ())) if part == HELD_OUT else 0
        left = spans.get(part, [])
        while left:
            fit = bisect.bisect_right(left, left[0].start + longest, key=attrgetter("stop"))
            take = min(max(1, fit), room)
            shard.append(_unit(source, part, number, tuple(left[:take])))
            number, left, room = number + take, left[take:], room - take
            if not room:
                yield shard
                shard, room = [], options.clips_per_shard
    if shard:
        yield shard


def _unit(s: PlannedSource, part: str, first_clip: int, clips: tuple[Span, ...]) -> Unit:
    return Unit(
        number=s.number,
        name=s.name,
        location=s.location,
        size=s.size,
        version=s.version,
        origin=s.origin,
        frame_rate=s.frame_rate,
        picture_size=s.picture_size,
        part=part,
        first_clip=first_clip,
        clips=clips,
        has_audio=s.has_audio,
        row=s.row,
        range_text=s.range_text,
        clock_jumps=s.clock_jumps,
    )
