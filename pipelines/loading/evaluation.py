"""Load every sample of a data set once, in its order: the batches that models are evaluated on."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from pipelines.decoding.segment import SegmentOptions
from pipelines.loading.batch_loader import BatchLoader, Request
from pipelines.loading.loader import make_loader
from pipelines.loading.raw_batch import RawBatch
from pipelines.loading.stream import reader_for
from pipelines.skips import SkipCounts, SkipLog
from shards import Samples

__all__ = ["evaluation_batches"]


def evaluation_batches(
    dataset: Samples,
    modalities: Sequence[str],
    segment_options: SegmentOptions,
    segments_per_clip: int = 1,
    batch_size: int = 16,
    threads: int = 2,
    skip_log: SkipLog | None = None,
    isolate_seconds: float | None = None,
    *,
    samples: NDArray[np.int64] | None = None,
    places: NDArray[np.float64] | None = None,
) -> Iterator[RawBatch]:
    """Every sample once, in the order of the data set, each with evenly spaced segments.

    Segment s of n starts at (s + ½) / n of what the clip allows: one segment is the middle one.

    Args:
        dataset: indexed shards.
        modalities: of a plan: what is decoded.
        segment_options: what a segment holds.
        segments_per_clip: n; the number of a row's segment is its `shift`.
        batch_size: samples of a batch; the last one may be smaller.
        threads: that decode.
        skip_log: where skips go; by default they are counted only.
        isolate_seconds: see `make_loader`.
        samples: int64, the numbers of those that are wanted, in this order; all by default.
        places: float64 [n] in [0, 1], where else in what the clip allows the segments start.

    Returns:
        Raw batches of epoch 0; a skipped sample is missing.

    Raises:
        ValueError: no segment, no batch, or options that the decoder or the frames do not go
            with; before the first batch is asked for.
        ImportError: the decoder's library is missing; likewise.
        TooManySkipsError: see `SkipLog`.
    """
    if segments_per_clip < 1 or batch_size < 1:
        raise ValueError(
            f"segments_per_clip = {segments_per_clip} and batch_size = {batch_size} must be "
            "at least 1"
        )
    even = (np.arange(segments_per_clip) + 0.5) / segments_per_clip
    starts = even if places is None else places
    wanted = np.arange(len(dataset)) if samples is None else samples
    requests = (
        Request(0, step, part, np.tile(starts, (len(part), 1)))
        for step, first in enumerate(range(0, len(wanted), batch_size))
        for part in [wanted[first : first + batch_size]]
    )
    isolated = isolate_seconds is not None
    reader = reader_for(dataset, modalities, segment_options, isolated=isolated)
    loader = make_loader(reader, threads, 2, isolate_seconds)
    return _evaluation_batches(loader, requests, skip_log or SkipLog(), len(wanted))


def _evaluation_batches(
    loader: BatchLoader, requests: Iterator[Request], skip_log: SkipLog, num_samples: int
) -> Iterator[RawBatch]:
    skip_counts = SkipCounts()
    try:
        for delivery in loader.deliveries(requests):
            for outcome in delivery.outcomes:
                if outcome is None:
                    skip_log.deliver(skip_counts)
                else:
                    skip_log.skip(skip_counts, outcome, epoch=0, step=delivery.batch.step)
            if len(delivery.batch):
                yield delivery.batch
    finally:
        loader.close()
    assert skip_counts.total == num_samples
