"""Captions of a sample for a batch: one at a place, or all in order."""

from pipelines.decoding.faults import sample_faults, skip_of
from pipelines.decoding.segment import SegmentOptions
from shards import Samples
from shards.plural import plural
from shards.reading.captions import captions_of

__all__ = ["drawn_captions"]


def drawn_captions(
    dataset: Samples, index: int, place: float, options: SegmentOptions, least: int
) -> tuple[str, ...]:
    """The caption at `place` in [0, 1) of all that a sample has; or all, "in_order".

    Raises:
        SkipError: it has none, or in order fewer than `least`, or its metadata cannot be read.
    """
    sample = dataset.sample(index)
    with sample_faults(sample):
        captions = captions_of(dataset.metadata(index))
    if not captions:
        raise skip_of(
            sample,
            "caption",
            "it has no caption: neither `caption` nor `captions` in its json, nor a .txt",
        )
    if options.captions == "one":
        return (captions[int(place * len(captions))],)
    if len(captions) < least:
        raise skip_of(
            sample,
            "caption",
            f"it has {plural(len(captions), 'caption')}, and segment.captions = 'in_order' "
            f"takes one for each of {least} draws of plan.augmentation",
        )
    return captions
