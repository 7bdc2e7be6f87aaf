"""Cut sources into clips, and runs of clips into units and shards. Plain arithmetic, no files.

The clips of all sources, in order, fill shard after shard; a unit is the part of one source that
goes into one shard, not longer than `seconds_per_unit`, and is what a worker does at a time. All of
it depends on the sources and options alone, so any number of workers builds the same shards.
"""

import hashlib
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from shards.options import BuildOptions, exact_seconds
from shards.transcode import Unit

WHOLE, TRAIN, HELD_OUT = "", "train", "val"


@dataclass(frozen=True)
class PlannedSource:
    """A probed source that will be cut: times in seconds of its own clock.

    Clips are cut from [start_seconds, stop_seconds), and never after the source's end.
    """

    number: int
    name: str
    path: str
    size: int
    mtime_ns: int
    origin: Fraction
    duration_seconds: Fraction
    has_audio: bool
    row: dict[str, Any] = field(default_factory=dict)
    start_seconds: Fraction = Fraction(0)
    stop_seconds: Fraction | None = None
    range_text: str = ""

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


def clip_counts(source: PlannedSource, options: BuildOptions) -> dict[str, int]:
    """How many whole clips each part gets of a source."""
    return {
        part: _whole_clips(stop - start, options)
        for part, (start, stop) in ranges(source, options).items()
    }


def _whole_clips(seconds: Fraction, options: BuildOptions) -> int:
    # a declared length may miss the last frame's own time; half a frame is within "on screen"
    slack = 1 / (2 * options.frame_rate)
    return max(0, int((seconds + slack) / options.clip_length))


def clips_after_end(source: PlannedSource, options: BuildOptions) -> int:
    """How many whole clips a range asks for that the source is too short for."""
    start, end = source.span
    if source.stop_seconds is None:
        return 0
    asked = _whole_clips(source.stop_seconds - start, options)
    return asked - _whole_clips(end - start, options)


def tails(source: PlannedSource, options: BuildOptions) -> int:
    """How many parts of a source end with a rest that is too short for a clip."""
    counts = clip_counts(source, options)
    rests = (
        stop - start - counts[part] * options.clip_length
        for part, (start, stop) in ranges(source, options).items()
        if counts[part]
    )
    return sum(rest * options.frame_rate > Fraction(1, 2) for rest in rests)


def cut(sources: Iterable[PlannedSource], part: str, options: BuildOptions) -> Iterator[list[Unit]]:
    """The shards of one part, each as its units in order."""
    longest = max(1, int(exact_seconds(options.seconds_per_unit) / options.clip_length))
    shard: list[Unit] = []
    room = options.clips_per_shard
    for source in sources:
        counts = clip_counts(source, options)
        if not counts.get(part):
            continue
        # held-out clips are numbered on from the training clips, so a key is used once
        number = counts.get(TRAIN, 0) if part == HELD_OUT else 0
        start = ranges(source, options)[part][0]
        left = counts[part]
        while left:
            take = min(left, room, longest)
            shard.append(_unit(source, part, number, take, start))
            number, left, room = number + take, left - take, room - take
            start += take * options.clip_length
            if not room:
                yield shard
                shard, room = [], options.clips_per_shard
    if shard:
        yield shard


def _unit(s: PlannedSource, part: str, first_clip: int, count: int, start: Fraction) -> Unit:
    return Unit(
        number=s.number,
        name=s.name,
        path=s.path,
        size=s.size,
        mtime_ns=s.mtime_ns,
        origin=s.origin,
        part=part,
        first_clip=first_clip,
        num_clips=count,
        start_seconds=start,
        has_audio=s.has_audio,
        row=s.row,
        range_text=s.range_text,
    )
