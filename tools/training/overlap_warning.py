"""Warn of time shifts that a plan tells apart although their segments overlap."""

from pipelines.loading.stream import Stream

_MUCH = 0.25


def overlap_warning(stream: Stream) -> str | None:
    """A line where more than a quarter of such pairs overlap; None where it is fine."""
    factor, seconds = stream.plan.factor("time_shift"), stream.segment_options.window_seconds
    if factor is None or bool(factor.contrast_table.all()):
        return None  # no two shifts are told apart
    share = stream.overlapping_share
    if share <= _MUCH:
        return None
    return (
        f"warning: of two segments of a clip, which the plan tells apart, {share:.0%} overlap: "
        f"what they share counts as different. plan.time_shift.min_seconds_apart = {seconds:g} "
        f"keeps them apart, in clips of {factor.draws * seconds:g} s and more"
    )
