"""What the clips of a data set have room for: a plan's time shifts, and how much they overlap."""

from collections.abc import Iterator
from contextlib import suppress

import numpy as np

from gdt.plan import Plan
from pipelines.decoding.segment_reader import SegmentReader
from pipelines.sampling.mixture import Mixture
from pipelines.sampling.time_shifts import overlapping_share, room_needed
from pipelines.skips import SkipError
from shards import Samples

__all__ = ["mean_overlapping_share", "refuse_too_short"]

_MOST_LOOKED_AT = 256


def refuse_too_short(reader: SegmentReader, plan: Plan) -> None:
    """Refuse a data set of which no clip has room for the plan's time shifts.

    Looks until it finds one that has.

    Raises:
        ValueError: names the data set, what a clip needs, and what the longest has.
    """
    apart, draws = plan.min_seconds_apart, plan.draws("time_shift")
    if not apart:
        return
    needed = room_needed(draws, apart)
    mixed = reader.dataset
    for dataset in mixed.data_sets.values() if isinstance(mixed, Mixture) else [mixed]:
        longest = 0.0
        for room in _rooms(reader, dataset, range(len(dataset))):
            longest = max(longest, room + reader.longest_seconds)
            if reader.fits(room, needed):
                break
        else:
            raise ValueError(
                f"plan.time_shift.min_seconds_apart = {apart:g}: {draws} segments of "
                f"{reader.longest_seconds:g} s so far apart need clips of "
                f"{needed + reader.longest_seconds:g} s, and the longest of {dataset.path} has "
                f"{longest:.3f} s: lower it or the draws, or build longer clips"
            )


def mean_overlapping_share(reader: SegmentReader, plan: Plan) -> float:
    """How many of all pairs of a clip's segments overlap: the mean of 256 clips at most."""
    apart, draws = plan.min_seconds_apart, plan.draws("time_shift")
    if draws < 2:
        return 0.0
    count = len(reader.dataset)
    places = np.unique(np.linspace(0, count - 1, min(count, _MOST_LOOKED_AT)).round().astype(int))
    shares = [
        overlapping_share(reader.longest_seconds, room, draws, apart)
        for room in _rooms(reader, reader.dataset, places.tolist())
        if reader.fits(room, room_needed(draws, apart))
    ]
    return sum(shares) / len(shares) if shares else 0.0


def _rooms(
    reader: SegmentReader, dataset: Samples, numbers: "range | list[int]"
) -> Iterator[float]:
    """Seconds from the first to the last possible start of each sample that can be used."""
    for number in numbers:
        with suppress(SkipError):
            yield reader.room(dataset.sample(number))
