"""What a segment needs of a sample: tracks that are there, long enough, and of one form."""

from collections.abc import Sequence

from pipelines.decoding.faults import skip_of
from pipelines.decoding.frame_format import FrameFormat
from pipelines.skips import MismatchError
from shards import IndexedSample, Track

__all__ = ["check_form", "common_span", "track_of"]


def track_of(sample: IndexedSample, kind: str) -> Track:
    """The sample's "video" or "audio" track.

    Raises:
        SkipError: it has none.
    """
    track: Track | None = getattr(sample, kind)
    if track is None and sample.fault:
        raise skip_of(sample, "open", sample.fault)
    if track is None:
        has = ", ".join(f".{extension}" for extension in sample.members)
        raise skip_of(sample, "cover", f"it has no {kind} track (members: {has})")
    return track


def common_span(
    sample: IndexedSample, kinds: Sequence[str], least_seconds: float, length: str
) -> tuple[float, float] | None:
    """[start, stop) seconds that tracks of these kinds all cover; None where all are stills.

    Args:
        sample: whose tracks they are.
        kinds: of "video" and "audio".
        least_seconds: how long it must be.
        length: what a segment needs, in words.

    Raises:
        SkipError: a track is missing, or the span is too short.
    """
    tracks = [track_of(sample, kind) for kind in kinds]
    tracks = [track for track in tracks if not track.is_still]
    if not tracks:
        return None
    start = max(track.start_seconds for track in tracks)
    stop = min(track.stop_seconds for track in tracks)
    if stop - start < least_seconds:
        ranges = " and ".join(
            f"{track.kind} [{track.start_seconds:.3f}, {track.stop_seconds:.3f}) s"
            for track in tracks
        )
        raise skip_of(
            sample,
            "cover",
            f"{ranges} have {max(0.0, stop - start):.3f} s in common, and a segment needs {length}",
        )
    return start, stop


def check_form(
    sample: IndexedSample, track: Track, form: FrameFormat, *, scales: bool, converts: bool
) -> None:
    """Check that a video track can be had in the common form.

    Args:
        sample: whose track it is.
        track: its video.
        form: of all frames.
        scales: whether `segment.frame_size` brings other sizes to it.
        converts: whether the decoder brings other colours to it.

    Raises:
        MismatchError: it has another size.
        SkipError: it has other colours.
    """
    differs = (track.width, track.height) != (form.width, form.height)
    if differs and not (scales or track.is_still):
        raise MismatchError(
            f"{sample.shard}: sample {sample.key!r} is {track.width}×{track.height}, and the "
            f"first of the data set is {form.width}×{form.height}: set segment.frame_size, "
            "or build the shards with one size"
        )
    theirs = (track.color_matrix, track.color_range)
    if theirs != (form.color_matrix, form.color_range) and (track.is_still or not converts):
        raise skip_of(
            sample,
            "index",
            f"its colours are {track.color_matrix} {track.color_range}, the data set's are "
            f"{form.color_matrix} {form.color_range}: decoder 'av' converts video, and "
            "`gdt shards build` brings all to one",
        )
