"""The streams of an open container: which are video and audio, and their packets."""

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import av

from shards.errors import SourceError
from shards.media.container import describe
from shards.media.continuous_clock import ContinuousClock
from shards.media.limits import MAX_PIXELS, MAX_SIDE
from shards.options import TrackChoice

_TIMES_MAY_JUMP = 0x0200  # AVFMT_TS_DISCONT
_QUICKTIME = "mov"
DEFAULT = TrackChoice()


def demux(container: Any, *streams: Any, clock: ContinuousClock | None = None) -> Iterator[Any]:
    """The packets of some streams in file order, then an empty one for each, on one clock.

    Streams may show up after the header (in MPEG-TS, FLV or a damaged file). PyAV looks for them
    in a list that it made before, and may fail for that when it has handed out all others.

    Args:
        container: an open one.
        streams: of it.
        clock: where the packets lie (see `clock_of`); a new one by default, as for all that begins
            at the file's start or after a seek.
    """
    clock = clock or clock_of(container)
    wanted = {stream.index for stream in streams}
    watched = streams
    if container.format.name != _QUICKTIME:  # so that any pass places a packet alike
        both = [*container.streams.video, *container.streams.audio]
        watched = tuple(s for s in both if s.index in wanted or s.codec_context is not None)
    with suppress(IndexError):
        for packet in container.demux(*watched):
            clock.place(packet)
            if packet.stream_index in wanted:
                yield packet


def clock_of(container: Any) -> ContinuousClock:
    """A clock for the packets of a container, from the first one that is read."""
    return ContinuousClock(times_may_jump(container))


def times_may_jump(container: Any) -> bool:
    """Whether a clock that jumps is nothing unusual in a container's format."""
    return bool(container.format.flags & _TIMES_MAY_JUMP)


def has_packet_table(container: Any, stream: Any) -> bool:
    """Whether the header lists all packets of a stream, so that there are no others."""
    return bool(is_quicktime(container) and stream.frames)


def is_quicktime(container: Any) -> bool:
    """Whether a container is MOV or MP4."""
    return bool(container.format.name == _QUICKTIME)


def video_stream(container: Any, tracks: TrackChoice = DEFAULT) -> Any:
    """The video stream to take (no cover images), its limits set; raises `SourceError` if none."""
    streams = [s for s in container.streams.video if not is_cover(s)]
    if not streams:
        raise SourceError("probe", "no video stream")
    streams = [s for s in streams if s.codec_context is not None]
    if not streams:
        raise SourceError("probe", "the video has an unknown codec")
    stream = asked_for(streams, tracks.video) if tracks.video else preferred(streams)
    codec = stream.codec_context
    width, height = codec.width, codec.height
    if not width or not height:  # FFmpeg forgets a size that it was told to refuse
        detail = f"limit {MAX_PIXELS} pixels"
        raise SourceError("probe", "the frame is too large, or has no size", detail)
    if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE:
        raise SourceError("probe", "the frame is too large", f"{width}×{height} pixels")
    codec.thread_count = 1
    codec.options = {"max_pixels": str(MAX_PIXELS)}
    return stream


def is_cover(stream: Any) -> bool:
    """Whether a video stream is one still image that comes with the file, as mp3s have."""
    return bool(stream.disposition & stream.disposition.__class__.attached_pic)


def audio_stream(container: Any, tracks: TrackChoice = DEFAULT) -> Any | None:
    """The audio stream to take, of those with samples and a known decoder; None if there is none.

    Raises:
        SourceError: there is some, but not the track that was asked for.
    """
    codecs = [(s, s.codec_context) for s in container.streams.audio]
    streams = [s for s, codec in codecs if codec is not None and codec.sample_rate]
    if not streams:
        return None
    stream = asked_for(streams, tracks.audio) if tracks.audio else preferred(streams)
    stream.codec_context.thread_count = 1
    return stream


def preferred(streams: list[Any]) -> Any:
    """Of several streams of a kind the one that players take; see `TrackChoice`."""
    marks = streams[0].disposition.__class__
    aside = marks.comment | marks.visual_impaired | marks.hearing_impaired | marks.clean_effects

    def rank(stream: Any) -> tuple[bool, bool, int]:
        pixels = 0
        if stream.type == "video":
            pixels = (stream.codec_context.width or 0) * (stream.codec_context.height or 0)
        mark = stream.disposition
        return not mark & aside, bool(mark & marks.default), pixels

    return max(streams, key=rank)  # the first of equals


def asked_for(streams: list[Any], track: str) -> Any:
    """The stream of a number, counted from 1, or of a language.

    Raises:
        SourceError: there is none; the detail says what there is.
    """
    if track.isdigit():
        found = streams[int(track) - 1 : int(track)]
    else:
        found = [s for s in streams if (s.language or "").lower() == track.lower()]
    if not found:
        languages = ", ".join(s.language or "und" for s in streams)
        cause = f"no {streams[0].type} track that was asked for"
        raise SourceError("probe", cause, f"{track}; there are {len(streams)}: {languages}")
    return found[0]


def first_frame(container: Any, stream: Any) -> Any:
    """Decode up to the first frame with a time; the container is left where that took it."""
    try:
        for packet in demux(container, stream):
            try:
                frames = packet.decode()
            except av.FFmpegError:
                continue
            for frame in frames:
                if frame.pts is not None:
                    return frame
    except av.FFmpegError as error:
        raise SourceError("probe", "no frame can be decoded", describe(error)) from error
    raise SourceError("probe", "no frame can be decoded")
